"""Making one replica its group's only voter, under a new id: outside of the protocol, durable at every step.

The state machine comes first, since it is the one thing that knows its own position: all that the log holds is applied
(it is to count as committed now), then one CONFIGURATION entry that names the new voter alone, and that is made
durable. Then one write empties the log to that position under the new id. A crash before it leaves a replica of the
old id whose configuration does not name it: it does nothing, and the same work done again ends it.

Hazard: never while another majority of the group lives. The plan says whether one may (`plan.py`).
"""

from __future__ import annotations

import asyncio
from functools import partial

from dwd.base.errors import Busy, Conflict, NotFound
from dwd.base.ids import GroupId, LogIndex, NodeId, ReplicaId, Stamp, Term
from dwd.base.units import MIB
from dwd.raft.core.configuration_codec import encode_configuration
from dwd.raft.core.types import (
    NO_REPLICA,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Member,
    MemberRole,
    SnapshotMeta,
)
from dwd.raft.ports import LogStore, LogWrite, StateMachine
from dwd.runtime.serial import Lane

READ_BYTES = 4 * MIB
CHECKPOINTS_MAX = 50
CHECKPOINT_PAUSE_SECONDS = 0.1


async def settle(
    machine: StateMachine, lane: Lane, log: LogStore, *, group: GroupId, last: LogIndex, voter: Member, term: Term
) -> LogWrite:
    """Bring the machine to the end of the log and the new configuration, durably; the write that empties the log to
    it. Raises Conflict (the log is not what it was), Busy (a long reader keeps the state from becoming durable).
    """
    configuration = Configuration(members=(voter,))
    position = await lane.submit(machine.position)
    if position.configuration != configuration:
        position = await _apply_rest(machine, lane, log, group, position, last)
        entry = Entry(
            index=LogIndex(position.index + 1), term=term, kind=EntryKind.CONFIGURATION,
            stamp=Stamp(position.stamp + 1), payload=encode_configuration(configuration),
        )  # fmt: skip
        await lane.submit(partial(machine.apply, [entry]))
        position = await lane.submit(machine.position)
    await _make_durable(machine, lane, position)
    hard_state = HardState(term=position.term, vote=NO_REPLICA, commit=position.index)
    return LogWrite(group=group, replica=voter.replica, hard_state=hard_state, reset=position)


async def _apply_rest(
    machine: StateMachine, lane: Lane, log: LogStore, group: GroupId, position: SnapshotMeta, last: LogIndex
) -> SnapshotMeta:
    while position.index < last:
        try:
            entries = await log.read(group, LogIndex(position.index + 1), last, READ_BYTES)
        except NotFound as error:
            raise Conflict(
                "recover.log_changed", f"the log of group {group} is not what it was when the plan was made",
                hint="make a new plan: `dwctl cluster recover plan`",
            ) from error  # fmt: skip
        await lane.submit(partial(machine.apply, entries))
        position = await lane.submit(machine.position)
    return position


async def _make_durable(machine: StateMachine, lane: Lane, position: SnapshotMeta) -> None:
    for _ in range(CHECKPOINTS_MAX):
        index = await lane.submit(machine.checkpoint)
        if index is not None and index >= position.index:
            return
        await asyncio.sleep(CHECKPOINT_PAUSE_SECONDS)
    raise Busy("recover.long_reader", "a long reader keeps the state from becoming durable", hint="try again")


def only_voter(node: NodeId, replica: ReplicaId) -> Member:
    return Member(node=node, replica=replica, role=MemberRole.VOTER)
