"""Has the replicas of every group led here compare their states, and those that are wrong replaced.

A checkpoint is a command: it fixes the index at which every replica records its state hash. The leader proposes one
when enough has changed, or when somebody is suspected, asks every member for what it recorded, and carries out what
`dwd.meta.core.agreement` says. Whoever holds a suspect replica tells the leader until that has dealt with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from dwd.base.clock import Clock
from dwd.base.errors import DwError, NotFound
from dwd.base.ids import GroupId, LogIndex, NodeId, hex_id
from dwd.meta.audit import Audit, Audits
from dwd.meta.client import MetaClient
from dwd.meta.core.agreement import Evidence, Verdict, Witnessed, Wrong, judge
from dwd.observability.metrics import counter
from dwd.raft.core.types import Member, MemberRole, Role
from dwd.raft.host import Host
from dwd.raft.status import GroupStatus
from dwd.runtime.worker import Progress

CHECKPOINT_ENTRIES = 10_000
CHECKPOINT_SECONDS = 600.0
"""A group in which anything happened is compared so often at least."""
ASK_SECONDS = 2.0
PROPOSE_SECONDS = 10.0
TRANSFER_SECONDS = 3.0
DISPUTE_SECONDS = 60.0
"""Between two looks at what nobody can tell."""
PATIENCE_SECONDS = 120.0
"""How long members are asked that have not come to the checkpoint, or do not answer."""

CHECKPOINTS = counter("dwd.meta.checkpoints", "Checkpoints proposed", "{checkpoint}")
DISPUTES = counter("dwd.meta.disputes", "Checkpoints at which states differed and no majority could tell", "{dispute}")

_log = structlog.get_logger("dwd.meta")


@dataclass(slots=True)
class _Watch:
    """One group in one term of this leader."""

    term: int
    at: float
    """When the last checkpoint was proposed, or the term was first seen."""
    index: int
    """Of the last checkpoint."""
    open: bool = False
    """It is not judged yet."""


class CheckpointWorker:
    """`rescan` has the local replicas scanned soon."""

    name = "meta.checkpoint"
    idle_seconds = 1.0

    def __init__(
        self,
        *,
        node: NodeId,
        host: Host,
        client: MetaClient,
        audit: Audit,
        audits: Audits,
        clock: Clock,
        rescan: Callable[[], None],
    ) -> None:
        self._node = node
        self._host = host
        self._client = client
        self._audit = audit
        self._audits = audits
        self._clock = clock
        self._rescan = rescan
        self._watched: dict[GroupId, _Watch] = {}
        self._quarantined: set[GroupId] = set()

    async def work(self) -> Progress:
        """One group's trouble keeps no other waiting."""
        trouble = list[DwError]()
        for group in self._host.groups():
            try:
                status = self._host.status(group)
                self._mind_quarantine(status)
                await self._report_rot(status)
                if status.failed is None and status.role is Role.LEADER:
                    await self._attend(status)
                else:
                    self._watched.pop(group, None)
            except NotFound:
                continue
            except DwError as error:
                trouble.append(error)
        if trouble:
            raise trouble[0]
        return Progress.IDLE

    def _mind_quarantine(self, status: GroupStatus) -> None:
        """A state that has just been replaced is read at once, whole."""
        if status.quarantined is not None:
            self._quarantined.add(status.group)
        elif status.group in self._quarantined:
            self._quarantined.discard(status.group)
            self._rescan()

    async def _report_rot(self, status: GroupStatus) -> None:
        rot = self._audit.rot_of(status.group)
        if rot is None or status.quarantined is not None or not status.leader_node:
            return
        if status.leader_node == self._node:
            self._audit.suspect(status.group, status.replica, rot)
            return
        await self._audits.suspect(status.leader_node, status.group, status.replica, rot, seconds=ASK_SECONDS)

    async def _attend(self, status: GroupStatus) -> None:
        group, now = status.group, self._clock.monotonic()
        watch = self._watched.get(group)
        if watch is None or watch.term != status.term:
            newest = status.state_hash.index if status.state_hash is not None else 0
            watch = self._watched[group] = _Watch(term=status.term, at=now, index=newest)
        if not watch.open and self._due(watch, status, now):
            receipt = await self._client.checkpoint(group, deadline=now + PROPOSE_SECONDS)
            CHECKPOINTS.add(1, group=group)
            watch.index, watch.at, watch.open = receipt.index, now, True
        if watch.open:
            verdict = judge(await self._ask_all(status, LogIndex(watch.index)), watch.index)
            watch.open = not verdict.complete and now < watch.at + PATIENCE_SECONDS
            await self._carry_out(status, verdict)

    def _due(self, watch: _Watch, status: GroupStatus, now: float) -> bool:
        if self._audit.take_suspicion(status.group) and (status.alarm is None or now >= watch.at + DISPUTE_SECONDS):
            return True
        news = status.applied - watch.index
        return news >= CHECKPOINT_ENTRIES or (news > 0 and now >= watch.at + CHECKPOINT_SECONDS)

    async def _ask_all(self, status: GroupStatus, index: LogIndex) -> list[Witnessed]:
        members = [m for m in status.configuration.members if m.role is not MemberRole.WITNESS]
        voters = {m.replica for m in status.configuration.voters()}
        said = await asyncio.gather(*(self._ask(status.group, member, index) for member in members))
        return [
            Witnessed(node=m.node, replica=m.replica, votes=m.replica in voters, said=told)
            for m, told in zip(members, said, strict=True)
        ]

    async def _ask(self, group: GroupId, member: Member, index: LogIndex) -> Evidence | None:
        try:
            if member.node == self._node:
                return await self._audit.testify(group, member.replica, index)
            return await self._audits.testify(member.node, group, member.replica, index, seconds=ASK_SECONDS)
        except DwError:
            return None

    async def _carry_out(self, status: GroupStatus, verdict: Verdict) -> None:
        """A wrong leader deals with nobody but itself: who replaces it finds the others."""
        group = status.group
        if verdict.disputed:
            if status.alarm != verdict.disputed:
                DISPUTES.add(1, group=group)
                _log.critical("replicas differ and nobody can tell which is right", group=group, why=verdict.disputed)
            self._host.set_alarm(group, verdict.disputed)
            return
        if verdict.right:
            self._host.set_alarm(group, None)
        own = [wrong for wrong in verdict.wrong if wrong.node == self._node]
        for wrong in own or verdict.wrong:
            _log.error("a replica's state is wrong", group=group, wrong=hex_id(wrong.replica), reason=wrong.reason)
            if wrong.node == self._node:
                await self._step_down(status, verdict, wrong)
            else:
                await self._audits.quarantine(wrong.node, group, wrong.replica, wrong.reason, seconds=ASK_SECONDS)

    async def _step_down(self, status: GroupStatus, verdict: Verdict, wrong: Wrong) -> None:
        """To one whose state is right, if it can be done quickly; quarantine ends the leadership anyway."""
        for node in verdict.right:
            deadline = self._clock.monotonic() + TRANSFER_SECONDS
            try:
                await self._host.transfer(status.group, node, deadline=deadline)
                break
            except DwError as error:
                _log.info("leadership not handed over", group=status.group, to=hex_id(node), error=str(error))
        await self._audit.quarantine(status.group, wrong.replica, wrong.reason)
