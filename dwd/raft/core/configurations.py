"""The configurations in the log, newest last: the one in force is the newest, committed or not.

Source: Ongaro's thesis 4.1: a server uses the latest configuration in its log; if it is truncated, the one before.
"""

from __future__ import annotations

from collections.abc import Iterable

from dwd.base.errors import InvariantViolation
from dwd.base.ids import LogIndex, ReplicaId
from dwd.raft.core.configuration_codec import decode_configuration
from dwd.raft.core.quorum import Half
from dwd.raft.core.types import Configuration, Entry, EntryKind, Member, MemberRole


def halves_of(configuration: Configuration) -> tuple[Half, ...]:
    """The sets of voters of each of which a majority decides: one, or while joint two (thesis 4.3)."""
    incoming = tuple(m.replica for m in configuration.voters())
    return (incoming, configuration.outgoing) if configuration.is_joint else (incoming,)


class Configurations:
    __slots__ = ("_history", "current", "halves", "index", "members", "voters", "witnesses")

    def __init__(self, index: LogIndex, configuration: Configuration) -> None:
        self._history: list[tuple[LogIndex, Configuration]] = [(index, configuration)]
        self._refresh()

    def _refresh(self) -> None:
        self.index, self.current = self._history[-1]
        """`index` is that of the entry that set the one in force, or of the state it was taken from."""
        self.halves = halves_of(self.current)
        self.voters: tuple[ReplicaId, ...] = tuple(sorted({voter for half in self.halves for voter in half}))
        """Of both halves while joint."""
        self.witnesses: frozenset[ReplicaId] = frozenset(
            m.replica for m in self.current.members if m.role is MemberRole.WITNESS
        )
        self.members: frozenset[ReplicaId] = frozenset(m.replica for m in self.current.members)

    def note(self, entries: Iterable[Entry]) -> None:
        """`entries` were appended."""
        for entry in entries:
            if entry.kind is EntryKind.CONFIGURATION:
                self._history.append((entry.index, decode_configuration(entry.payload)))
                self._refresh()

    def truncate_after(self, index: int) -> None:
        """Go back to the configuration that was in force at `index`."""
        if self.index <= index:
            return
        while self._history[-1][0] > index:
            if len(self._history) == 1:
                raise InvariantViolation("a committed configuration would be rolled back", index=index)
            self._history.pop()
        self._refresh()

    def candidate(self, replica: ReplicaId, commit: int) -> Member | None:
        """`replica` as it may stand for election: a voter, while joint of either half. While the configuration in force
        is not committed also one of the one before: a leader that removed itself may be the only one with the entry
        (thesis 4.2.2).
        """
        known = self._history[-2:] if self.index > commit else self._history[-1:]
        for _, configuration in reversed(known):
            if any(replica in half for half in halves_of(configuration)):
                return configuration.find(replica)
        return None

    def settle(self, commit: int) -> None:
        """What was in force before the newest committed one can never come back."""
        while len(self._history) > 1 and self._history[1][0] <= commit:
            del self._history[0]

    def between(self, after: int, upto: int) -> tuple[tuple[LogIndex, Configuration], ...]:
        """Those set by entries in (after, upto], as far as they are not settled."""
        return tuple(known for known in self._history if after < known[0] <= upto)

    def reset(self, index: LogIndex, configuration: Configuration) -> None:
        self._history = [(index, configuration)]
        self._refresh()
