"""One node's part in a recovery: say what is here, write the order down, carry it out.

An order is written down on every survivor before any of them acts on it, so whoever is interrupted, or hears another
speak under the new epoch first, goes on by itself. Each step may be repeated.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import structlog

from dwd.base.errors import Conflict
from dwd.base.ids import GroupId, LogIndex, NodeId, Term
from dwd.raft.core.types import Member, MemberRole, Role
from dwd.raft.quorum_loss.epochs import Epochs, epoch_name
from dwd.raft.quorum_loss.plan import BROKEN, NodeReport, Order, ReplicaReport, Seat
from dwd.raft.quorum_loss.reseat import only_voter
from dwd.raft.status import GroupStatus

_log = structlog.get_logger("dwd.raft")


class Reseating(Protocol):
    """What is asked of `dwd.raft.host.Host`."""

    def groups(self) -> tuple[GroupId, ...]: ...

    def status(self, group: GroupId) -> GroupStatus: ...

    async def reseat(self, group: GroupId, *, last: LogIndex, voter: Member, term: Term) -> None: ...

    def give_up(self, group: GroupId) -> None: ...


class Execution:
    """One a node."""

    def __init__(self, node: NodeId, host: Reseating, epochs: Epochs) -> None:
        self._node = node
        self._host = host
        self._epochs = epochs
        self._lock = asyncio.Lock()

    @property
    def epoch(self) -> int:
        return self._epochs.current

    def orders(self) -> tuple[Order, ...]:
        """The one carried out last, and the one that is to be."""
        return tuple(order for order in (self._epochs.done, self._epochs.order) if order is not None)

    def report(self) -> NodeReport:
        replicas = tuple(_report(self._host.status(group)) for group in self._host.groups())
        return NodeReport(node=self._node, epoch=self._epochs.current, replicas=replicas)

    async def prepare(self, order: Order) -> None:
        """Write it down. Raises Conflict when what is here is not what the plan was made from."""
        async with self._lock:
            if self._epochs.current != order.epoch:
                self._check(order)
            await self._epochs.prepare(order)

    async def obey(self) -> None:
        """Carry out what is written down; nothing if nothing is. Raises DwError; then it may be done again."""
        async with self._lock:
            order = self._epochs.order
            if order is None:
                return
            own = {one.group: one for one in order.on(self._node)}
            for plan in order.plan.groups:
                mine = own.get(plan.group)
                if mine is not None:
                    voter = only_voter(self._node, mine.replica)
                    await self._host.reseat(plan.group, last=plan.kept, voter=voter, term=mine.term)
                    _log.warning("group carried on from here alone", group=plan.group, kept=plan.kept)
                elif plan.chosen:
                    self._host.give_up(plan.group)
            await self._epochs.commit(order)
            _log.warning(
                "cluster recovered without its quorum", epoch=epoch_name(order.epoch), plan=order.plan.hash,
                ordered_by=order.ordered_by,
            )  # fmt: skip

    def _check(self, order: Order) -> None:
        here = {replica.group: replica for replica in self.report().replicas}
        new = {one.group: one.replica for one in order.on(self._node)}
        for plan in order.plan.groups:
            known = next((s for s in plan.survivors if s.node == self._node), None)
            found = here.get(plan.group)
            if found is not None and found.replica == new.get(plan.group):
                continue
            told = None if known is None else (known.replica, known.last_term, known.last_index)
            seen = None if found is None else (found.replica, found.last_term, found.last_index)
            half_done = known is not None and found is not None and self._is_half_done(found, order)
            if told != seen and not half_done:
                raise Conflict(
                    "recover.stale", f"group {plan.group} changed on this node since the plan was made",
                    hint="make a new plan: `dwctl cluster recover plan`",
                )  # fmt: skip

    def _is_half_done(self, found: ReplicaReport, order: Order) -> bool:
        """Interrupted between the state machine and the log: its configuration is the new one already."""
        new = {one.replica for one in order.on(self._node)}
        return any(seat.replica in new for seat in found.members)


def _report(status: GroupStatus) -> ReplicaReport:
    configuration = status.configuration
    return ReplicaReport(
        group=status.group,
        replica=status.replica,
        term=status.term,
        last_term=status.last_term,
        last_index=status.last,
        commit=status.commit,
        leads=status.role is Role.LEADER and not status.hibernating and status.failed is None,
        doubtful=status.tail_doubt,
        unfit=_unfit(status),
        members=tuple(
            Seat(
                node=member.node,
                replica=member.replica,
                votes=member.role is not MemberRole.LEARNER and member.replica not in configuration.leaving,
            )
            for member in configuration.members
        ),
        outgoing=configuration.outgoing,
    )


def _unfit(status: GroupStatus) -> str:
    if status.failed is not None:
        return f"{BROKEN}: {status.failed.message}"
    if status.quarantined is not None:
        return f"quarantined: {status.quarantined}"
    return "a witness, holds no data" if status.witness else ""
