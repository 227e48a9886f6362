"""Who should be a member of a group, and the next single step there.

Invariants:
* never fewer working voters than a quorum after a step, counting what may still fail on its way: a member is removed
  only when the rest, alone, is a quorum of working voters;
* one step at a time, the next one only after the last is applied;
* a member that is merely down is not replaced: it comes back with its log. One whose node says it has no such
  replica, or a broken one, is (REPLACE_LOST).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from dwd.base.ids import NodeId, ReplicaId
from dwd.meta.core.control.rows import Liveness, NodeRow
from dwd.raft.core.types import ChangeKind, Configuration, Member, MemberRole

LOSSES_DEFAULT = 2
"""The cluster's default loss tolerance M: 2·min(M, 2) + 1 voters."""
LOSSES_MAX = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """Nodes that should vote, and nodes that should only listen."""

    voters: tuple[NodeId, ...]
    learners: tuple[NodeId, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """`kind` and the node it concerns; `replica` names a present member, 0 where a new one is to be made."""

    kind: ChangeKind
    node: NodeId
    replica: ReplicaId


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the leader knows of its group."""

    leader: NodeId
    configuration: Configuration
    caught_up: Collection[NodeId]
    """Learners that may be promoted now."""
    missing: Collection[NodeId]
    """Members whose replica is gone or broken."""
    reachable: Collection[NodeId]
    """Heard of lately in this group; the leader's own node too."""
    admissible: Collection[NodeId]
    """Nodes that may be given a replica now: up, and not among those that just refused one."""


def voters_wanted(nodes: int, losses: int = LOSSES_DEFAULT) -> int:
    """2·min(M, 2) + 1, capped to the largest odd number of nodes there are."""
    largest_odd = nodes if nodes % 2 else nodes - 1
    return max(1, min(2 * min(losses, LOSSES_MAX) + 1, largest_odd))


def desired(nodes: Sequence[NodeRow], present: Configuration, *, everywhere: bool) -> Desired:
    """Voters spread over zones; present voters are kept where that spreads as well. `everywhere`: all other nodes
    listen (control). Nodes that are down keep their place, but no new one is given to them.
    """
    known = {n.node: n for n in nodes}
    voting = [m.node for m in present.voters() if m.node in known]
    wanted = voters_wanted(len(nodes))
    zones: dict[str, int] = {}
    chosen: list[NodeId] = []
    candidates = sorted(known)
    while len(chosen) < wanted:
        rest = [n for n in candidates if n not in chosen and (n in voting or known[n].liveness is Liveness.UP)] or [
            n for n in candidates if n not in chosen
        ]
        best = min(rest, key=lambda n: (zones.get(known[n].domain.zone, 0), n not in voting, n))
        chosen.append(best)
        zones[known[best].domain.zone] = zones.get(known[best].domain.zone, 0) + 1
    learners = tuple(n for n in candidates if n not in chosen) if everywhere else ()
    return Desired(voters=tuple(sorted(chosen)), learners=learners)


def next_step(wanted: Desired, seen: Seen) -> Step | None:
    """None: nothing to do, or nothing that is safe now."""
    members = {m.node: m for m in seen.configuration.members}
    return (
        _replace_lost(members, seen)
        or _promote(wanted, members, seen)
        or _add(wanted, members, seen)
        or _remove(wanted, members, seen)
    )


def _replace_lost(members: Mapping[NodeId, Member], seen: Seen) -> Step | None:
    """A lost voter counts against the quorum until it is out; the rest must be a quorum without it."""
    for node in sorted(seen.missing):
        member = members.get(node)
        if member is None or node == seen.leader or node not in seen.admissible:
            continue
        if member.role is MemberRole.LEARNER or _safe_without(node, seen):
            return Step(kind=ChangeKind.REPLACE_LOST, node=node, replica=member.replica)
    return None


def _promote(wanted: Desired, members: Mapping[NodeId, Member], seen: Seen) -> Step | None:
    for node in wanted.voters:
        member = members.get(node)
        if member is not None and member.role is MemberRole.LEARNER and node in seen.caught_up:
            return Step(kind=ChangeKind.PROMOTE, node=node, replica=member.replica)
    return None


def _add(wanted: Desired, members: Mapping[NodeId, Member], seen: Seen) -> Step | None:
    """New members start as learners; voters-to-be first."""
    for node in (*wanted.voters, *wanted.learners):
        if node not in members and node in seen.admissible:
            return Step(kind=ChangeKind.ADD_LEARNER, node=node, replica=ReplicaId(0))
    return None


def _remove(wanted: Desired, members: Mapping[NodeId, Member], seen: Seen) -> Step | None:
    """Who is not wanted at all leaves once every wanted voter votes, learners first; never the leader itself.

    A voter that should only listen leaves too and comes back as a learner by `_add`.
    """
    voting = {m.node for m in seen.configuration.voters()}
    listening = sorted(n for n, m in members.items() if m.role is MemberRole.LEARNER)
    for node in listening:
        if node not in wanted.voters and node not in wanted.learners:
            return Step(kind=ChangeKind.REMOVE, node=node, replica=members[node].replica)
    if not voting.issuperset(wanted.voters):
        return None
    for node in sorted(voting.difference(wanted.voters)):
        if node != seen.leader and _safe_without(node, seen):
            return Step(kind=ChangeKind.REMOVE, node=node, replica=members[node].replica)
    return None


def _safe_without(node: NodeId, seen: Seen) -> bool:
    """Whether the other voters, as many as work, are a quorum of those that would be left and of those there are."""
    voting = [m.node for m in seen.configuration.voters()]
    working = [n for n in voting if n != node and n in seen.reachable and n not in seen.missing]
    left = [n for n in voting if n != node]
    return bool(left) and len(working) > len(left) // 2 and len(working) > len(voting) // 2
