"""Who should be a member of a group, and the next step there.

Invariants:
* never fewer working voters than a quorum after a step, counting what may still fail on its way: voters are removed
  only when the rest, alone, is a quorum of working voters;
* whoever comes for whoever goes does so in one joint change, and voters come and go in pairs where they can: an even
  number of voters survives no more losses than the odd number below it, and stops for one more;
* one step at a time, the next one only after the last is applied;
* a member that is merely down is not replaced: it comes back with its log. One whose node says it has no such
  replica, or a broken one, is (REPLACE_LOST);
* a leader that is to vote no longer hands leadership over before anything else;
* a node that is drained votes nowhere and holds no shard; of control it keeps a copy, as every node does.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from dwd.base.ids import CONTROL_GROUP, GroupId, NodeId, ReplicaId
from dwd.meta.core.control.queries import Topology
from dwd.meta.core.control.rows import Liveness, NodeRow, NodeStanding
from dwd.meta.core.pins import Pin, decode_pin, setting_of
from dwd.raft.core.types import ChangeKind, Configuration, Member, MemberRole

LOSSES_DEFAULT = 2
"""The cluster's default loss tolerance M: 2·min(M, 2) + 1 voters."""
LOSSES_MAX = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """Nodes that should vote, nodes that should only listen, nodes that should only vote."""

    voters: tuple[NodeId, ...]
    learners: tuple[NodeId, ...] = ()
    witnesses: tuple[NodeId, ...] = ()

    @property
    def voting(self) -> tuple[NodeId, ...]:
        return (*self.voters, *self.witnesses)

    def role_of(self, node: NodeId) -> MemberRole | None:
        """None: no member."""
        for role, nodes in (
            (MemberRole.VOTER, self.voters), (MemberRole.LEARNER, self.learners), (MemberRole.WITNESS, self.witnesses)
        ):  # fmt: skip
            if node in nodes:
                return role
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepChange:
    """`kind` and the node it concerns; `replica` names a present member, 0 where a new one is to be made."""

    kind: ChangeKind
    node: NodeId
    replica: ReplicaId


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Changes to be made at once; or, without any, the node to hand leadership to."""

    changes: tuple[StepChange, ...] = ()
    hand_over: NodeId | None = None


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
    listen (control). Nodes that are down keep their place, but no new one is given to them; those that are drained
    lose theirs.
    """
    known = {n.node: n for n in nodes if n.standing is NodeStanding.ACTIVE} or {n.node: n for n in nodes}
    voting = [m.node for m in present.voters() if m.node in known]
    wanted = voters_wanted(len(known))
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
    learners = tuple(sorted(n.node for n in nodes if n.node not in chosen)) if everywhere else ()
    return Desired(voters=tuple(sorted(chosen)), learners=learners)


def pin_of(topology: Topology, group: GroupId) -> Pin | None:
    """None: the members are up to the cluster. Raises Corrupt."""
    return decode_pin(group, topology.setting(setting_of(group)))


def wanted(topology: Topology, group: GroupId, present: Configuration) -> Desired:
    """Who should be a member: whom an operator pinned, else what spreads best. Raises Corrupt."""
    everywhere = group == CONTROL_GROUP
    pin = pin_of(topology, group)
    if pin is None:
        return desired(topology.nodes, present, everywhere=everywhere)
    known = frozenset(row.node for row in topology.nodes)
    voters, learners, witnesses = (
        tuple(n for n in pin.of(role) if n in known)
        for role in (MemberRole.VOTER, MemberRole.LEARNER, MemberRole.WITNESS)
    )
    if everywhere:
        learners = tuple(sorted(known.difference(voters, witnesses)))
    return Desired(voters=voters, learners=learners, witnesses=witnesses)


def next_step(wanted: Desired, seen: Seen) -> Step | None:
    """None: nothing to do, or nothing that is safe now."""
    if seen.configuration.is_joint:
        return None
    members = {m.node: m for m in seen.configuration.members}
    return (
        _replace_lost(members, seen)
        or _hand_over(wanted, members, seen)
        or _exchange(wanted, members, seen)
        or _add(wanted, members, seen)
        or _dismiss(wanted, members)
    )


def outstanding(wanted: Desired, present: Configuration) -> tuple[tuple[NodeId, str], ...]:
    """What separates the members there are from those there should be: node and what is to become of it."""
    members = {m.node: m.role for m in present.members if m.replica not in present.leaving}
    found: list[tuple[NodeId, str]] = []
    for node in sorted({*members, *wanted.voting, *wanted.learners}):
        role, wish = members.get(node), wanted.role_of(node)
        if role is wish:
            continue
        if wish is None:
            found.append((node, "is to leave"))
        elif role is None:
            found.append((node, f"is to become a {wish.name.lower()}"))
        else:
            found.append((node, f"is to become a {wish.name.lower()}, is a {role.name.lower()}"))
    return tuple(found)


def _replace_lost(members: Mapping[NodeId, Member], seen: Seen) -> Step | None:
    """A lost voter counts against the quorum until it is out; the rest must be a quorum without it."""
    for node in sorted(seen.missing):
        member = members.get(node)
        if member is None or node == seen.leader or node not in seen.admissible:
            continue
        if member.role is MemberRole.LEARNER or _safe((), (node,), seen):
            return Step(changes=(StepChange(kind=ChangeKind.REPLACE_LOST, node=node, replica=member.replica),))
    return None


def _hand_over(wanted: Desired, members: Mapping[NodeId, Member], seen: Seen) -> Step | None:
    """When the leader is the one to go and somebody who stays could lead."""
    if wanted.role_of(seen.leader) is MemberRole.VOTER:
        return None
    fit = [n for n in wanted.voters if _is(members, n, MemberRole.VOTER) and n in seen.reachable]
    return Step(hand_over=fit[0]) if fit else None


def _exchange(wanted: Desired, members: Mapping[NodeId, Member], seen: Seen) -> Step | None:
    """Voters that come, and as many that go as are then too many. While one more is about to catch up, who would make
    the number even waits for it.
    """
    coming = [n for n in wanted.voters if _is(members, n, MemberRole.LEARNER) and n in seen.caught_up]
    awaited = [n for n in wanted.voters if _is(members, n, MemberRole.LEARNER) and n in seen.reachable]
    many = len(seen.configuration.voters()) + len(coming)
    if coming and many < len(wanted.voting) and many % 2 == 0 and len(awaited) > len(coming):
        coming, many = [], many - len(coming)
    going = _going(wanted, seen, many - len(wanted.voting))
    if not (coming or going) or not _safe(coming, going, seen):
        return None
    promoted = [StepChange(kind=ChangeKind.PROMOTE, node=n, replica=members[n].replica) for n in coming]
    return Step(changes=(*promoted, *(_farewell(wanted, members[n]) for n in going)))


def _going(wanted: Desired, seen: Seen, surplus: int) -> list[NodeId]:
    """`surplus` voters that should not be what they are, the ones that do not work first. A voter that is to be a
    witness, or the other way round, goes even when there is none too many: it comes back as what it should be.
    """
    wrong = [m.node for m in seen.configuration.voters() if m.role is not wanted.role_of(m.node)]
    wrong = sorted((n for n in wrong if n != seen.leader), key=lambda n: (_works(n, seen), n))
    turning = [n for n in wrong if n in wanted.voting]
    return wrong[:surplus] if surplus > 0 else turning[:1]


def _farewell(wanted: Desired, member: Member) -> StepChange:
    """A voter that should only listen keeps its copy."""
    listens = wanted.role_of(member.node) is MemberRole.LEARNER and member.role is MemberRole.VOTER
    kind = ChangeKind.DEMOTE if listens else ChangeKind.REMOVE
    return StepChange(kind=kind, node=member.node, replica=member.replica)


def _add(wanted: Desired, members: Mapping[NodeId, Member], seen: Seen) -> Step | None:
    """New members start as learners; voters-to-be first. A witness has nothing to learn."""
    for node in (*wanted.voters, *wanted.witnesses, *wanted.learners):
        if node not in members and node in seen.admissible:
            witness = wanted.role_of(node) is MemberRole.WITNESS
            kind = ChangeKind.ADD_WITNESS if witness else ChangeKind.ADD_LEARNER
            return Step(changes=(StepChange(kind=kind, node=node, replica=ReplicaId(0)),))
    return None


def _dismiss(wanted: Desired, members: Mapping[NodeId, Member]) -> Step | None:
    """Learners nobody wants leave; so does one that is to be a witness, which it comes back as."""
    unwanted = [
        StepChange(kind=ChangeKind.REMOVE, node=node, replica=member.replica)
        for node, member in sorted(members.items())
        if member.role is MemberRole.LEARNER and wanted.role_of(node) not in {MemberRole.VOTER, MemberRole.LEARNER}
    ]
    return Step(changes=tuple(unwanted)) if unwanted else None


def _is(members: Mapping[NodeId, Member], node: NodeId, role: MemberRole) -> bool:
    return node in members and members[node].role is role


def _works(node: NodeId, seen: Seen) -> bool:
    return node in seen.reachable and node not in seen.missing


def _safe(coming: Collection[NodeId], going: Collection[NodeId], seen: Seen) -> bool:
    """Whether the voters that work are a quorum of those there are, and those of them that stay, with those that come
    and were just found to have caught up, one of those there would be.
    """
    voting = [m.node for m in seen.configuration.voters()]
    staying = [n for n in voting if n not in going]
    working = sum(1 for n in voting if _works(n, seen))
    lasting = sum(1 for n in staying if _works(n, seen)) + len(coming)
    return working > len(voting) // 2 and lasting > (len(staying) + len(coming)) // 2
