"""Proposals between their caller and their fate.

A proposal is `waiting` until the loop hands it to the core, `handed` until the core accepts or refuses it, `placed`
at an index of the log until that index is applied. Only from `placed` on may it take effect.

Invariants:
* at most `limit` proposals are held; past it the caller gets Busy;
* every future is resolved exactly once: applied, refused, overdue, or lost with the leadership.

Proposals go to the core in rounds: while one is not committed, what comes meanwhile gathers for the next, so under
load messages, log writes and transactions become larger instead of more. What is worth a message of its own
(`ROUND_COUNT` proposals or `ROUND_BYTES`) does not wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence

from dwd.base.errors import Busy, DeadlineExceeded, DwError, NoSpace, OutcomeUnknown, Unavailable
from dwd.base.ids import GroupId, LogIndex, Term
from dwd.base.units import KIB
from dwd.raft.core.effects import Accepted, Refused
from dwd.raft.core.types import ConfigurationChange, Entry, JointChange, ProposalId
from dwd.raft.ports import Applied

Wish = bytes | ConfigurationChange | JointChange

ROUND_COUNT = 64
ROUND_BYTES = 256 * KIB


class Proposal:
    """One caller's wish."""

    __slots__ = ("deadline", "future", "id", "term", "wish")

    def __init__(self, wish: Wish, deadline: float, future: asyncio.Future[Applied]) -> None:
        self.id = ProposalId(0)
        self.wish = wish
        self.deadline = deadline
        self.future = future
        self.term = Term(0)

    def fail(self, error: DwError) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Proposals:
    """All proposals of one group on this node."""

    def __init__(self, group: GroupId, limit: int) -> None:
        self._group = group
        self._limit = limit
        self._waiting: deque[Proposal] = deque()
        self._handed: dict[ProposalId, Proposal] = {}
        self._placed: dict[LogIndex, Proposal] = {}
        self._last_id = 0
        self._waiting_bytes = 0
        self._uncommitted = LogIndex(0)
        """The last entry of the round under way; 0 if none is."""

    def __len__(self) -> int:
        return len(self._waiting) + len(self._handed) + len(self._placed)

    def add(self, wish: Wish, deadline: float, future: asyncio.Future[Applied]) -> None:
        """Raises Busy."""
        if len(self) >= self._limit:
            raise Busy(
                "raft.proposals_full",
                f"{self._limit} proposals are waiting in group {self._group}",
                group=self._group,
                limit=self._limit,
            )
        self._waiting.append(Proposal(wish, deadline, future))
        self._waiting_bytes += _size(wish)

    def waiting(self) -> bool:
        return bool(self._waiting)

    def round_due(self) -> bool:
        """Whether what waits should go to the core now."""
        if not (self._uncommitted or self._handed):
            return bool(self._waiting)
        return len(self._waiting) >= ROUND_COUNT or self._waiting_bytes >= ROUND_BYTES

    def hand_over(self, count_max: int) -> list[Proposal]:
        """The next ones for the core, each with its id; those nobody waits for any more are left out."""
        taken: list[Proposal] = []
        waiting = self._waiting
        while waiting and len(taken) < count_max:
            proposal = waiting.popleft()
            self._waiting_bytes -= _size(proposal.wish)
            if proposal.future.done():
                continue
            self._last_id += 1
            proposal.id = ProposalId(self._last_id)
            self._handed[proposal.id] = proposal
            taken.append(proposal)
        return taken

    def refuse_waiting(self, reason: NoSpace) -> None:
        """This node cannot write now: whoever waits is told so, and that nothing was changed."""
        for proposal in self._waiting:
            proposal.fail(
                NoSpace("raft.no_space", f"the leader cannot write: {reason.message}", hint="free some space")
            )
        self._waiting.clear()
        self._waiting_bytes = 0

    def accepted(self, answers: Iterable[Accepted]) -> None:
        for answer in answers:
            proposal = self._handed.pop(answer.proposal, None)
            if proposal is not None:
                proposal.term = answer.term
                self._placed[answer.index] = proposal
                self._uncommitted = answer.index

    def committed(self, index: LogIndex) -> None:
        """Everything up to `index` is: the next round may begin."""
        if index >= self._uncommitted:
            self._uncommitted = LogIndex(0)

    def refused(self, answers: Iterable[Refused]) -> None:
        for answer in answers:
            proposal = self._handed.pop(answer.proposal, None)
            if proposal is not None:
                proposal.fail(answer.error)

    def applied(self, entries: Sequence[Entry], results: Sequence[object]) -> None:
        """Entry i was applied with result i."""
        placed = self._placed
        if not placed:
            return
        for entry, result in zip(entries, results, strict=True):
            proposal = placed.pop(entry.index, None)
            if proposal is None or proposal.future.done():
                continue
            if proposal.term == entry.term:
                proposal.future.set_result(Applied(index=entry.index, term=entry.term, result=result))
            else:
                proposal.fail(_overwritten(self._group))

    def lost_leadership(self) -> None:
        """What is placed may still commit under the next leader: nobody here can tell."""
        placed, self._placed = self._placed, {}
        self._uncommitted = LogIndex(0)
        for proposal in placed.values():
            proposal.fail(_unknown(self._group, "leadership was lost before the command was committed"))

    def overdue(self, now: float) -> None:
        """Resolve those whose deadline passed. A placed one keeps its slot free of charge: it is forgotten."""
        for proposal in self._waiting:
            if proposal.deadline <= now:
                proposal.fail(
                    DeadlineExceeded("raft.not_proposed", "the command was not proposed in time; nothing was changed")
                )
        for index in [i for i, p in self._placed.items() if p.deadline <= now or p.future.done()]:
            self._placed.pop(index).fail(_unknown(self._group, "the command was not committed in time"))

    def close(self, error: DwError) -> None:
        """Fail everything: the replica stops. `error` must be one that says nothing was changed. What the core was
        given may have left already, although its acceptance was not seen here.
        """
        self.lost_leadership()
        for proposal in self._handed.values():
            proposal.fail(_unknown(self._group, "the replica stopped while the command was on its way to the log"))
        for proposal in self._waiting:
            proposal.fail(error)
        self._handed.clear()
        self._waiting.clear()
        self._waiting_bytes = 0


def _size(wish: Wish) -> int:
    return len(wish) if isinstance(wish, bytes) else 0


def _unknown(group: GroupId, message: str) -> OutcomeUnknown:
    return OutcomeUnknown("raft.outcome_unknown", f"{message}; it may still take effect", group=group)


def _overwritten(group: GroupId) -> Unavailable:
    return Unavailable(
        "raft.overwritten", "another leader's entry took the command's place; nothing was changed", group=group
    )
