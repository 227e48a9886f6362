"""Waiting for leadership to arrive somewhere else. Whoever asked for a transfer learns who leads then, or that nobody
took over in time and this node leads on.

A voter that has not answered just now may only have been asked between two heartbeats: who is wished for gets
PATIENCE_TICKS to be heard from before the wish is refused.

Source: Ongaro's thesis, 3.10. The core gives a transfer up by itself; here is only who waits for it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from dwd.base.errors import DeadlineExceeded, DwError, NotFound, SafetyRefused
from dwd.base.ids import GroupId, NodeId, ReplicaId
from dwd.raft.core.node import Node
from dwd.raft.core.status import NodeStatus, ProgressState
from dwd.raft.core.types import NO_REPLICA, MemberRole, Role

PATIENCE_TICKS = 10
NOT_YET = frozenset({"raft.not_caught_up", "raft.no_heir"})
"""Refusals that may be over at the next heartbeat."""


@dataclass(slots=True, kw_only=True)
class _Wish:
    """A transfer that cannot begin yet."""

    to: NodeId | None
    deadline: float
    future: asyncio.Future[NodeId]
    ticks_left: int = PATIENCE_TICKS


class Handover:
    """Of one replica."""

    def __init__(self, group: GroupId) -> None:
        self._group = group
        self._waiting: list[tuple[float, asyncio.Future[NodeId]]] = []
        self._wishes: list[_Wish] = []

    def begin(self, core: Node, to: NodeId | None, deadline: float, future: asyncio.Future[NodeId]) -> None:
        """Raises what `Node.transfer_leadership` raises; `future` says SafetyRefused: nobody fit in PATIENCE_TICKS."""
        try:
            self._begin(core, to)
        except SafetyRefused as refusal:
            if refusal.code not in NOT_YET:
                raise
            self._wishes.append(_Wish(to=to, deadline=deadline, future=future))
        else:
            self._waiting.append((deadline, future))

    def _begin(self, core: Node, to: NodeId | None) -> None:
        status = core.status()
        if status.role is not Role.LEADER:
            target = NO_REPLICA
        else:
            target = _fittest(status) if to is None else _replica_on(status, to)
        core.transfer_leadership(target)

    def leads(self, node: NodeId) -> None:
        """Another node leads now."""
        for future in self._take_all():
            if not future.done():
                future.set_result(node)

    def _take_all(self) -> list[asyncio.Future[NodeId]]:
        waiting, self._waiting = self._waiting, []
        wishes, self._wishes = self._wishes, []
        return [*(future for _, future in waiting), *(wish.future for wish in wishes)]

    def _try_again(self, now: float, core: Node) -> None:
        wishes, self._wishes = self._wishes, []
        for wish in wishes:
            wish.ticks_left -= 1
            if wish.future.done():
                continue
            try:
                self._begin(core, wish.to)
            except DwError as error:
                if error.code in NOT_YET and wish.ticks_left > 0 and now < wish.deadline:
                    self._wishes.append(wish)
                else:
                    wish.future.set_exception(error)
            else:
                self._waiting.append((wish.deadline, wish.future))

    def tick(self, now: float, core: Node) -> None:
        """Tell those whose time is over, or whose transfer this replica gave up: it leads on."""
        self._try_again(now, core)
        if not self._waiting:
            return
        status = core.status()
        over = status.role is Role.LEADER and status.transferring == NO_REPLICA
        for deadline, future in self._waiting:
            if (over or deadline <= now) and not future.done():
                future.set_exception(_late(self._group))
        self._waiting = [waiting for waiting in self._waiting if not waiting[1].done()]
        if not self._waiting and status.role is Role.LEADER:
            core.transfer_leadership(status.replica)

    def close(self, error: DwError) -> None:
        for future in self._take_all():
            if not future.done():
                future.set_exception(error)


def _replica_on(status: NodeStatus, node: NodeId) -> ReplicaId:
    member = status.configuration.on_node(node)
    if member is None:
        raise NotFound("raft.no_member", "this node has no replica of the group")
    return member.replica


def _fittest(status: NodeStatus) -> ReplicaId:
    """The voter that is furthest, of those the highest priority."""
    peers = {peer.replica: peer for peer in status.peers}
    fit = [
        (peers[member.replica].match, member.priority, member.replica)
        for member in status.configuration.voters()
        if member.role is MemberRole.VOTER
        and member.priority > 0
        and member.replica in peers
        and peers[member.replica].recent_active
        and not peers[member.replica].reluctant
        and peers[member.replica].state is not ProgressState.SNAPSHOT
    ]
    if not fit:
        raise SafetyRefused("raft.no_heir", "no other voter of the group answers that could lead")
    return max(fit)[2]


def _late(group: GroupId) -> DeadlineExceeded:
    return DeadlineExceeded(
        "raft.transfer_late", "nobody took leadership over in time", hint="try again, or to another node", group=group
    )
