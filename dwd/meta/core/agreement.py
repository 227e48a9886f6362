"""Which replicas' states are right, by what each recorded at one checkpoint. The majority is.

A state counts for what it recorded if nobody has reason to doubt that it still is what was recorded: a replica whose
scan found other rows than were written, or that is in quarantine, counts for nothing. Right is what more than half of
all voters with data recorded, whether the others answered or not: fewer prove nothing, for the silent ones may agree
with whoever is wrong. So of two voters with data neither is ever judged; what they disagree about is for people.

Source: raft.md section 3.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dwd.base.ids import NodeId, ReplicaId


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a replica's node said when asked for one checkpoint."""

    digest: bytes = b""
    """Empty: nothing is recorded for it, or not yet."""
    rot: str = ""
    quarantined: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Witnessed:
    """A member that holds data, and its testimony; None: its node did not answer."""

    node: NodeId
    replica: ReplicaId
    votes: bool
    said: Evidence | None

    @property
    def sound(self) -> bool:
        return self.said is not None and bool(self.said.digest) and not self.said.rot and not self.said.quarantined


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    node: NodeId
    replica: ReplicaId
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`right` are the voters whose state is right, empty when that is not known; `disputed` says why then."""

    right: tuple[NodeId, ...]
    wrong: tuple[Wrong, ...]
    disputed: str
    complete: bool
    """Everybody who can has testified: asking again would bring nothing new."""


def judge(members: Sequence[Witnessed], index: int) -> Verdict:
    """`members` are all that hold data."""
    voters = [member for member in members if member.votes]
    counts = Counter(member.said.digest for member in voters if member.said is not None and member.sound)
    complete = all(m.said is not None and (m.said.digest or m.said.quarantined) for m in members)
    best, count = counts.most_common(1)[0] if counts else (b"", 0)
    if 2 * count > len(voters):
        right = tuple(m.node for m in voters if m.sound and m.said is not None and m.said.digest == best)
        wrong = tuple(
            Wrong(node=m.node, replica=m.replica, reason=reason)
            for m in members
            if m.said is not None and (reason := _fault(m.said, best, index))
        )
        return Verdict(right=right, wrong=wrong, disputed="", complete=complete)
    rotten = [m for m in members if m.said is not None and m.said.rot and not m.said.quarantined]
    disputed = ""
    if rotten or len(counts) > 1:
        said = f"{len(counts)} different states at index {index}" if len(counts) > 1 else "rows that are not as written"
        disputed = f"{said} among {len(voters)} voters with data, and no majority to tell which is right"
    return Verdict(right=(), wrong=(), disputed=disputed, complete=complete)


def _fault(said: Evidence, right: bytes, index: int) -> str:
    """Why a replica is wrong; empty if it is not, or is dealt with already."""
    if said.quarantined:
        return ""
    if said.rot:
        return said.rot
    if said.digest and said.digest != right:
        return f"the state at index {index} is not that of the majority"
    return ""
