"""Client sessions: a command sent twice takes effect once.

A session keeps the outcomes of its commands from `lowest` (the client has all answers below it) on. Kept in memory
and, one row a session, in the database; rows of the sessions that a batch used are written once a batch. Results as
bytes: `[count u32]` then `[sequence u64][length u32][outcome]...` in order of sequence.

A registration that was long on its way must not bring a forgotten session back, empty: what it did would be done again.
So a registration names a log position its client knew when it chose the id, and one that may be older than the last
forgetting is refused (`register`). The thesis makes the position of the registration the id; random ids stay apart
also when the tables of two groups become one.

Source: Ongaro's thesis, section 6.3.
Invariants: the rows depend on the entries alone, never on how they were cut into batches; a session once forgotten is
never known again.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from dwd.base.errors import Busy, Conflict, Corrupt
from dwd.base.ids import LogIndex
from dwd.meta.core.tx import Tx

SESSIONS_MAX = 4_096
SESSION_IDLE_ENTRIES = 10_000_000
"""A session that sent nothing while so many entries were applied is forgotten when another registers."""
WINDOW_MAX = 4_096
"""Unacknowledged commands of a session; the proposer's own limit is below."""

FORGETTING = 0
"""Instead of a session's id: the row whose `used` is the index of the last entry that had a session forgotten."""

_COUNT = struct.Struct(">I")
_HEAD = struct.Struct(">QI")


class _Session:
    __slots__ = ("lowest", "results", "used")

    def __init__(self, used: int, lowest: int, results: dict[int, bytes]) -> None:
        self.used = used
        self.lowest = lowest
        self.results = results


class Sessions:
    """The table of one group."""

    def __init__(self) -> None:
        self._sessions: dict[int, _Session] = {}
        self._dirty: set[int] = set()
        self._removed: set[int] = set()
        self._forgot = self._forgot_written = 0

    def load(self, tx: Tx) -> None:
        self._dirty.clear()
        self._removed.clear()
        self._sessions = {
            session: _Session(used, lowest, _decode(results))
            for session, used, lowest, results in tx.rows("SELECT session, used, lowest, results FROM sessions")
        }
        forgetting = self._sessions.pop(FORGETTING, None)
        self._forgot = self._forgot_written = 0 if forgetting is None else forgetting.used

    def register(self, session: int, index: LogIndex, *, known: int = 0) -> None:
        """Repeatable. Makes room by forgetting the idle and, at the limit, the least recently used.

        `known` is an index that had been applied when the id was chosen. Raises Conflict meta.session_stale when a
        session was forgotten after it, which may have been this one; the error's `index` will do for another id.
        """
        if session not in self._sessions and known < self._forgot:
            raise Conflict("meta.session_stale", "sessions were forgotten after this one was begun", index=int(index))
        for idle in [s for s, row in self._sessions.items() if row.used < index - SESSION_IDLE_ENTRIES]:
            self._remove(idle, index)
        if session not in self._sessions and len(self._sessions) >= SESSIONS_MAX:
            self._remove(min(self._sessions, key=lambda s: (self._sessions[s].used, s)), index)
        present = self._sessions.get(session)
        if present is None:
            self._sessions[session] = _Session(index, 0, {})
        else:
            present.used = index
        self._removed.discard(session)
        self._dirty.add(session)

    def recall(self, session: int, sequence: int, lowest: int, index: LogIndex) -> bytes | None:
        """The remembered outcome, or None if the command must be executed now and then be given to `remember`.

        Raises Conflict meta.session_expired (unknown here: nothing was executed under this sequence that still
        counts) or meta.sequence_acknowledged, Busy meta.session_window.
        """
        row = self._sessions.get(session)
        if row is None:
            raise Conflict("meta.session_expired", f"session {session:016x} is not known to this group")
        row.used = index
        self._dirty.add(session)
        if lowest > row.lowest:
            row.lowest = lowest
            for old in [s for s in row.results if s < lowest]:
                del row.results[old]
        if sequence < row.lowest:
            raise Conflict("meta.sequence_acknowledged", f"sequence {sequence} was acknowledged before")
        if sequence >= row.lowest + WINDOW_MAX:
            raise Busy("meta.session_window", f"a session may have {WINDOW_MAX} commands without an answer")
        return row.results.get(sequence)

    def remember(self, session: int, sequence: int, outcome: bytes) -> None:
        self._sessions[session].results[sequence] = outcome
        self._dirty.add(session)

    def flush(self, tx: Tx) -> None:
        """Write what the batch changed."""
        if self._removed:
            tx.run_many("DELETE FROM sessions WHERE session = ?", [(s,) for s in sorted(self._removed)])
            self._removed.clear()
        if self._forgot != self._forgot_written:
            tx.run("INSERT OR REPLACE INTO sessions VALUES (?, ?, 0, ?)", (FORGETTING, self._forgot, _encode({})))
            self._forgot_written = self._forgot
        if self._dirty:
            rows = [(s, self._sessions[s]) for s in sorted(self._dirty)]
            tx.run_many(
                "INSERT OR REPLACE INTO sessions VALUES (?, ?, ?, ?)",
                [(s, row.used, row.lowest, _encode(row.results)) for s, row in rows],
            )
            self._dirty.clear()

    def _remove(self, session: int, index: LogIndex) -> None:
        self._forgot = index
        del self._sessions[session]
        self._dirty.discard(session)
        self._removed.add(session)


def _encode(results: Mapping[int, bytes]) -> bytes:
    pieces = [_COUNT.pack(len(results))]
    for sequence in sorted(results):
        outcome = results[sequence]
        pieces += (_HEAD.pack(sequence, len(outcome)), outcome)
    return b"".join(pieces)


def _decode(encoded: bytes) -> dict[int, bytes]:
    results: dict[int, bytes] = {}
    try:
        (count,) = _COUNT.unpack_from(encoded)
        at = _COUNT.size
        for _ in range(count):
            sequence, length = _HEAD.unpack_from(encoded, at)
            at += _HEAD.size
            results[sequence] = encoded[at : at + length]
            at += length
    except struct.error as error:
        raise Corrupt("meta.session_malformed", "a session's results cannot be read") from error
    return results
