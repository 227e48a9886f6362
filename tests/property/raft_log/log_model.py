"""What the Raft log must hold after any prefix of what was submitted to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dwd.base.ids import GroupId, LogIndex, NodeId, ReplicaId, Stamp, Term
from dwd.raft.core.types import (
    EMPTY_HARD_STATE,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Member,
    MemberRole,
    SnapshotMeta,
)
from dwd.raft.ports import LogWrite, RecoveredLog


def entry(index: int, term: int, size: int = 20) -> Entry:
    return Entry(
        index=LogIndex(index),
        term=Term(term),
        kind=EntryKind.COMMAND,
        stamp=Stamp(index * 7),
        payload=(f"{index}/{term} ".encode() * (size // 4 + 1))[:size],
    )


def position(index: int, term: int) -> SnapshotMeta:
    member = Member(node=NodeId(1), replica=ReplicaId(9), role=MemberRole.VOTER)
    return SnapshotMeta(
        index=LogIndex(index),
        term=Term(term),
        stamp=Stamp(index),
        configuration=Configuration(members=(member,)),
    )


@dataclass
class Group:
    replica: int
    hard_state: HardState = EMPTY_HARD_STATE
    base: int = 0
    entries: list[Entry] = field(default_factory=list)

    @property
    def last(self) -> int:
        return self.base + len(self.entries)

    def write(self, write: LogWrite) -> None:
        if write.hard_state is not None:
            self.hard_state = write.hard_state
        if write.reset is not None:
            self.base, self.entries = write.reset.index, []
        for new in write.entries:
            del self.entries[new.index - self.base - 1 :]
            self.entries.append(new)

    def term_at(self, index: int) -> int:
        return self.entries[index - self.base - 1].term if index > self.base else 1

    def matches(self, log: RecoveredLog, compacted_max: int) -> bool:
        if (log.replica, log.hard_state) != (self.replica, self.hard_state):
            return False
        if not self.base <= log.compacted.index <= max(compacted_max, self.base):
            return False
        return list(log.entries) == self.entries[log.compacted.index - self.base :]


Change = LogWrite | GroupId
"""A write, or a group to drop."""


def state_after(changes: Sequence[Change]) -> dict[int, Group]:
    groups: dict[int, Group] = {}
    for change in changes:
        if not isinstance(change, LogWrite):
            groups.pop(change, None)
            continue
        known = groups.get(change.group)
        if known is None or known.replica != change.replica:
            known = groups[change.group] = Group(replica=change.replica)
        known.write(change)
    return groups
