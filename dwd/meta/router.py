"""Where a group's leader is, and trying again when it is not there: for proposals and questions alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import TypeVar

from dwd.base.clock import Clock, Rng
from dwd.base.errors import (
    Corrupt,
    DeadlineExceeded,
    DwError,
    NotLeader,
    OutcomeUnknown,
    StorageFailed,
    Unavailable,
)
from dwd.base.ids import GroupId, NodeId
from dwd.meta.core.control.rows import Liveness
from dwd.meta.core.outcome import Outcome
from dwd.meta.core.query import Query
from dwd.meta.local import Consensus, LocalGroups
from dwd.meta.peers import Peers
from dwd.meta.view import ControlView

A = TypeVar("A")

PAUSE_SECONDS_MIN = 0.02
PAUSE_SECONDS_MAX = 0.25
ATTEMPT_SECONDS = 5.0
"""One node is waited for at most so long while the caller's deadline allows another."""
LOCAL_SECONDS = 1.0
"""The local copy is waited for at most so long when others can be asked: it may be far behind."""
LAGGING_SECONDS = 2.0
"""A local copy that did not answer is not asked first again for so long."""


class Router:
    """Finds a group's leader by what the local replica knows, by hints, and by asking around."""

    def __init__(
        self,
        *,
        node: NodeId,
        host: Consensus,
        local: LocalGroups,
        peers: Peers,
        view: ControlView,
        clock: Clock,
        rng: Rng,
    ) -> None:
        self._node = node
        self._host = host
        self._local = local
        self._peers = peers
        self._view = view
        self._clock = clock
        self._rng = rng
        self._hints: dict[GroupId, NodeId] = {}
        self._lagging: dict[GroupId, float] = {}
        """Until when the local copy is passed over."""
        self._watched: dict[GroupId, Callable[[], None]] = {}
        self._leaves_at = float("inf")

    def leave(self, seconds: float) -> None:
        """The node stops: from then on nobody waits for a leader that may never come."""
        self._leaves_at = self._clock.monotonic() + seconds

    def close(self) -> None:
        for stop in self._watched.values():
            stop()
        self._watched.clear()

    async def propose(self, group: GroupId, payload: bytes, *, deadline: float) -> tuple[Outcome, bool]:
        """The outcome, and whether an earlier attempt may have taken effect too (then a session must tell).
        Raises Unavailable, DeadlineExceeded (nothing was changed), OutcomeUnknown, Busy. Once an attempt may have
        taken effect no later refusal (Busy, say) is passed on: it would deny what happened.
        """
        ambiguous = False
        attempts = _Attempts()
        while True:
            target = self._leader(group, attempts)
            until = min(deadline, self._clock.monotonic() + ATTEMPT_SECONDS)
            try:
                if target == self._node:
                    return await self._local.propose(group, payload, deadline=until), ambiguous
                return await self._peers.propose(target, group, payload, deadline=until), ambiguous
            except NotLeader as error:
                self._learn(group, error, attempts, target)
            except OutcomeUnknown as error:
                ambiguous = True
                attempts.failed(target, error)
            except (Unavailable, DeadlineExceeded) as error:
                attempts.failed(target, error)
            except DwError as error:
                if not ambiguous:
                    raise
                attempts.failed(target, error)
            await self._pause(group, attempts, deadline, ambiguous=ambiguous)

    async def answer(self, group: GroupId, query: Query[A], *, deadline: float) -> A:
        """From the local replica where there is one, else from the leader or any other member. A copy that cannot be
        read, or is behind, is as good as none while another can.
        """
        attempts = _Attempts()
        while True:
            now = self._clock.monotonic()
            near = not attempts.count and self._lagging.get(group, now) <= now and self._local.holds(group)
            target = self._node if near else self._leader(group, attempts)
            until = min(deadline, now + (LOCAL_SECONDS if near else ATTEMPT_SECONDS))
            try:
                if target == self._node:
                    return await self._local.answer(group, query, deadline=until)
                return await self._peers.answer(target, group, query, deadline=until)
            except NotLeader as error:
                self._learn(group, error, attempts, target)
            except (Unavailable, DeadlineExceeded, OutcomeUnknown, Corrupt, StorageFailed) as error:
                attempts.failed(target, error)
                if near:
                    self._lagging[group] = self._clock.monotonic() + LAGGING_SECONDS
            await self._pause(group, attempts, deadline, ambiguous=False)

    def leads(self, group: GroupId) -> bool:
        return self._host.leads(group)

    def _leader(self, group: GroupId, attempts: _Attempts) -> NodeId:
        """The best guess that has not just failed; else the next of all nodes in turn."""
        guesses = [guess for guess in self._guesses(group) if guess and guess not in attempts.tried]
        if guesses:
            return guesses[0]
        attempts.tried.clear()
        topology = self._view.topology_or_none()
        nodes = [] if topology is None else [n.node for n in topology.nodes if n.liveness is Liveness.UP]
        return nodes[attempts.count % len(nodes)] if nodes else self._node

    def _guesses(self, group: GroupId) -> Iterator[NodeId]:
        if self._local.holds(group):
            self._watch(group)
            yield self._host.leader_node(group)
        yield self._hints.get(group, NodeId(0))

    def _watch(self, group: GroupId) -> None:
        if group not in self._watched:
            self._watched[group] = self._host.watch(
                group, lambda leader, _term, _here: self._peers.leader_changed(group, leader) if leader else None
            )

    def _learn(self, group: GroupId, error: NotLeader, attempts: _Attempts, target: NodeId) -> None:
        leader = NodeId(error.leader_node)
        attempts.failed(target, error)
        if leader and leader != target:
            self._hints[group] = leader
            attempts.tried.discard(leader)
            attempts.at_once = leader not in attempts.hinted
            attempts.hinted.add(leader)
        else:
            self._hints.pop(group, None)

    async def _pause(self, group: GroupId, attempts: _Attempts, deadline: float, *, ambiguous: bool) -> None:
        """Before the next attempt: none after a fresh hint, else longer and longer. Raises at the deadline."""
        if attempts.at_once:
            attempts.at_once = False
            return
        longest = min(PAUSE_SECONDS_MAX, PAUSE_SECONDS_MIN * 2 ** min(attempts.count, 8))
        pause = self._rng.uniform(longest / 2, longest)
        if self._clock.monotonic() + pause >= min(deadline, self._leaves_at):
            if ambiguous:
                raise OutcomeUnknown(
                    "meta.outcome_unknown", f"group {group} gave no answer in time; the command may still take effect"
                ) from attempts.error
            raise Unavailable(
                "meta.unavailable", f"group {group} has no leader that could be reached in time", group=group
            ) from attempts.error
        attempts.hinted.clear()
        await asyncio.sleep(pause)


class _Attempts:
    """What one call has tried."""

    def __init__(self) -> None:
        self.count = 0
        self.tried: set[NodeId] = set()
        self.hinted: set[NodeId] = set()
        self.at_once = False
        self.error: Exception | None = None

    def failed(self, target: NodeId, error: Exception) -> None:
        self.count += 1
        self.tried.add(target)
        self.error = error
