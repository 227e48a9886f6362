"""Commands through sessions: one session a group and boot, so that a command sent twice takes effect once.

Source: Ongaro's thesis, section 6.3; raft.md section 4.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dwd.base.clock import Clock, Rng
from dwd.base.errors import Busy, DeadlineExceeded, DwError, OutcomeUnknown
from dwd.base.ids import ID_BITS, GroupId
from dwd.meta.codec import encode_envelope
from dwd.meta.core.apply import Command, Envelope, RegisterSession
from dwd.meta.core.fencing import Fence
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.sessions import WINDOW_MAX
from dwd.meta.core.versions import OLDEST
from dwd.meta.router import Router

IN_FLIGHT_MAX = WINDOW_MAX // 2
"""Commands of this node to one group without an answer; past it callers get Busy."""
EXPIRED = "meta.session_expired"
EXPIRED_RETRIES_MAX = 3
STALE = "meta.session_stale"
STALE_RETRIES_MAX = 8
"""Registrations that others overtook: each makes a full table forget a session."""


class _Session:
    """Sequences in flight; `lowest` is what the group may forget below."""

    def __init__(self, session: int) -> None:
        self.session = session
        self._next = 0
        self._in_flight: dict[int, None] = {}

    def begin(self) -> int:
        if len(self._in_flight) >= IN_FLIGHT_MAX or self._next >= self.lowest() + IN_FLIGHT_MAX:
            raise Busy("meta.in_flight", f"{IN_FLIGHT_MAX} commands wait for an answer")
        sequence = self._next
        self._next += 1
        self._in_flight[sequence] = None
        return sequence

    def end(self, sequence: int) -> None:
        del self._in_flight[sequence]

    def lowest(self) -> int:
        return next(iter(self._in_flight), self._next)


class Proposer:
    """One a node, on its event loop."""

    def __init__(
        self, router: Router, rng: Rng, clock: Clock, *, version_of: Callable[[GroupId], int] = lambda _group: OLDEST
    ) -> None:
        """`version_of`: a group's active version, or an earlier one where it is not known."""
        self._version_of = version_of
        self._router = router
        self._rng = rng
        self._clock = clock
        self._sessions: dict[GroupId, _Session] = {}
        self._registering: dict[GroupId, asyncio.Lock] = {}

    async def propose(
        self, group: GroupId, command: Command, *, deadline: float, fence: Fence | None = None
    ) -> Receipt:
        """Raises the error the command earned, and what `Router.propose` raises."""
        for _ in range(EXPIRED_RETRIES_MAX):
            session = self._sessions.get(group) or await self._register(group, deadline)
            sequence = session.begin()
            try:
                envelope = Envelope(
                    session=session.session,
                    sequence=sequence,
                    lowest=session.lowest(),
                    version=self._version_of(group),
                    command=command,
                    fence=fence,
                )
                outcome, ambiguous = await self._router.propose(group, encode_envelope(envelope), deadline=deadline)
            finally:
                session.end(sequence)
            if isinstance(outcome, Receipt):
                return outcome
            if outcome.code != EXPIRED:
                raise _own(outcome)
            self._forget(group, session)
            if ambiguous:
                raise OutcomeUnknown("meta.outcome_unknown", "the session expired while the command was on its way")
        raise Busy("meta.sessions", "the group forgets sessions faster than they are used")

    async def _register(self, group: GroupId, deadline: float) -> _Session:
        """Repeatable: the id is this node's choice. One caller does it for all; the others wait for it no longer than
        their own time.
        """
        lock = self._registering.setdefault(group, asyncio.Lock())
        try:
            async with asyncio.timeout(max(0.0, deadline - self._clock.monotonic())):
                _ = await lock.acquire()
        except TimeoutError as error:
            raise DeadlineExceeded("meta.no_session", f"group {group} gave this node no session in time") from error
        try:
            known = self._sessions.get(group)
            if known is not None:
                return known
            session = self._sessions[group] = await self._begin(group, deadline)
            return session
        finally:
            lock.release()

    async def _begin(self, group: GroupId, deadline: float) -> _Session:
        known = 0
        for _ in range(STALE_RETRIES_MAX):
            session = _Session(self._rng.bits(ID_BITS) | 1)
            envelope = Envelope(
                session=session.session,
                sequence=known,
                lowest=known,
                version=self._version_of(group),
                command=RegisterSession(),
            )
            outcome, _ = await self._router.propose(group, encode_envelope(envelope), deadline=deadline)
            if not isinstance(outcome, DwError):
                return session
            found = outcome.fields.get("index")
            if outcome.code != STALE or not isinstance(found, int):
                raise _own(outcome)
            known = found
        raise Busy("meta.sessions", "the group forgets sessions faster than they are registered")

    def _forget(self, group: GroupId, session: _Session) -> None:
        if self._sessions.get(group) is session:
            del self._sessions[group]


def _own(error: DwError) -> DwError:
    """An outcome may be shared by several callers; each raises its own."""
    return type(error)(error.code, error.message, hint=error.hint, **error.fields)
