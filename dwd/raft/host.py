"""One node's host of Raft: runs every group's core over one shared log.

All methods are called on the event loop. Deadlines are absolute, on the injected clock's `monotonic`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from dwd.base.clock import Clock, Rng
from dwd.base.ids import GroupId, LogIndex, NodeId, ReplicaId, Term
from dwd.raft.core.types import Configuration, ConfigurationChange
from dwd.raft.options import HostOptions
from dwd.raft.ports import Applied, LogStore, StateMachine
from dwd.raft.status import GroupStatus
from dwd.raft.transport import Absence, Transport

LeadershipCallback = Callable[[NodeId, Term, bool], None]
"""leader's node (0: none known), term, whether it is this node."""


class Host:
    """Runs all groups of a node."""

    def __init__(
        self,
        *,
        node: NodeId,
        log: LogStore,
        transport: Transport,
        machines: Callable[[GroupId], StateMachine],
        discard_machine: Callable[[GroupId], None],
        snapshots: Path,
        clock: Clock,
        rng: Rng,
        options: HostOptions,
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        """`machines` opens or creates a group's machine, `discard_machine` removes all that is stored of it (it is
        closed, or could not be opened; a missing one is no error): both are called on a worker thread. `snapshots` is
        a directory for copies in transit, emptied at start; `on_fatal` is called once when the node must stop.
        """
        raise NotImplementedError

    async def start(self) -> None:
        """Recover every group of the log, open their machines, start the transport and the loop."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Waiting proposals and reads are failed; closes transport and machines, not the log."""
        raise NotImplementedError

    async def bootstrap(self, group: GroupId, configuration: Configuration) -> None:
        """Create the first replica of a new group, whose only voter is on this node. Idempotent; after `start`."""
        raise NotImplementedError

    async def propose(self, group: GroupId, payload: bytes, *, deadline: float) -> Applied:
        """Replicate a command and return the machine's result for it.

        Raises NotLeader, Busy, Unavailable (nothing was changed), NotFound (no such group here), OutcomeUnknown
        (accepted, then leadership was lost or the deadline passed: it may still take effect).
        """
        raise NotImplementedError

    async def read_index(self, group: GroupId, *, deadline: float) -> LogIndex:
        """Return once the local machine has applied all that was committed when this was called: a read of it
        afterwards is linearizable. On any replica. Raises Unavailable, Busy, NotFound.
        """
        raise NotImplementedError

    async def change(self, group: GroupId, change: ConfigurationChange, *, deadline: float) -> Configuration:
        """On the leader: one membership step. Raises Conflict while another is in flight, and what `propose` raises."""
        raise NotImplementedError

    async def create_replica(self, group: GroupId, replica: ReplicaId) -> None:
        """An empty replica that waits to be added to the group. Discards an older local one that is not in use.
        Idempotent for the same id. Raises Conflict if a working replica of the group lives here.
        """
        raise NotImplementedError

    async def drop_replica(self, group: GroupId) -> None:
        """Forget the local replica: its log is dropped, its machine closed."""
        raise NotImplementedError

    def missing(self, group: GroupId) -> Mapping[NodeId, Absence]:
        """On the leader: members whose node says it has no such replica, or a broken one: to be replaced."""
        raise NotImplementedError

    def groups(self) -> tuple[GroupId, ...]:
        raise NotImplementedError

    def status(self, group: GroupId) -> GroupStatus:
        """Raises NotFound."""
        raise NotImplementedError

    def last_contact(self, node: NodeId) -> float:
        """Seconds since any message from `node`; infinity if none came since the start, 0 for this node."""
        raise NotImplementedError

    def watch(self, group: GroupId, callback: LeadershipCallback) -> Callable[[], None]:
        """Call `callback` at once and at every change of leader or term; returns what ends it."""
        raise NotImplementedError
