"""Members that an operator chose: `pinned` instead of what the cluster thinks best, until the operator lets go.

A pin names the nodes of one group with what each is to be there. It is a setting of control: it outlives whoever
leads, is changed by compare-and-swap, and is what the membership worker works towards. Operators and worker never pull
in two directions, since operators change the aim and the worker alone takes the steps.

    raft.members.GROUP = "voter=ID,ID learner=ID witness=ID"      ids of nodes, 16 hex digits

A member whose log is gone is still replaced under a new id on its node; a node that left the cluster is no longer
meant. Of control every other node listens, pinned or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dwd.base.errors import AlreadyExists, Corrupt, DwError, InvalidArgument, NotFound, SafetyRefused
from dwd.base.ids import CONTROL_GROUP, GroupId, NodeId, hex_id, parse_hex_id
from dwd.raft.core.types import Configuration, MemberRole

PREFIX = "raft.members."


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """Who is to be what in `group`."""

    group: GroupId
    roles: Mapping[NodeId, MemberRole]

    def of(self, role: MemberRole) -> tuple[NodeId, ...]:
        """In order of id."""
        return tuple(sorted(node for node, given in self.roles.items() if given is role))


def setting_of(group: GroupId) -> str:
    """The name of the setting that holds the group's pin."""
    return f"{PREFIX}{group}"


def encode_pin(pin: Pin) -> str:
    parts = ((role.name.lower(), pin.of(role)) for role in MemberRole)
    return " ".join(f"{name}={','.join(map(hex_id, nodes))}" for name, nodes in parts if nodes)


def decode_pin(group: GroupId, text: str) -> Pin | None:
    """None for an empty text: not pinned. Raises Corrupt."""
    if not text:
        return None
    roles: dict[NodeId, MemberRole] = {}
    try:
        for part in text.split(" "):
            name, _, nodes = part.partition("=")
            role = MemberRole[name.upper()]
            roles.update({NodeId(parse_hex_id(node)): role for node in nodes.split(",")})
    except (KeyError, DwError) as error:
        raise Corrupt("meta.pin", f"the members pinned for group {group} cannot be read: {text[:80]!r}") from error
    return Pin(group=group, roles=roles)


def as_it_is(group: GroupId, present: Configuration) -> Pin:
    """A pin of the members there are: where an operator's first change begins."""
    staying = (member for member in present.members if member.replica not in present.leaving)
    return Pin(group=group, roles={member.node: member.role for member in staying})


# -- what operators do to it; `name` is what they call the node ----------------------------------------------------


def add(pin: Pin, node: NodeId, role: MemberRole, *, name: str) -> Pin:
    """Raises AlreadyExists unless it is that already, but for a listener of control, whom nobody had to add."""
    present = pin.roles.get(node)
    listens = pin.group == CONTROL_GROUP and present is MemberRole.LEARNER
    if present is not None and not (listens and role is not MemberRole.LEARNER):
        raise AlreadyExists(
            "raft.member_exists",
            f"node {name} is a {present.name.lower()} of group {pin.group} already",
            hint="`dwctl raft member promote` and `demote` change what it is",
        )
    return Pin(group=pin.group, roles={**pin.roles, node: role})


def promote(pin: Pin, node: NodeId, *, name: str) -> Pin:
    """To voter. Raises NotFound, AlreadyExists."""
    if _role(pin, node, name) is MemberRole.VOTER:
        raise AlreadyExists("raft.voter_exists", f"node {name} votes in group {pin.group} already")
    return Pin(group=pin.group, roles={**pin.roles, node: MemberRole.VOTER})


def demote(pin: Pin, node: NodeId, *, name: str) -> Pin:
    """To learner. Raises NotFound, AlreadyExists."""
    if _role(pin, node, name) is MemberRole.LEARNER:
        raise AlreadyExists("raft.learner_exists", f"node {name} only listens in group {pin.group} already")
    return Pin(group=pin.group, roles={**pin.roles, node: MemberRole.LEARNER})


def remove(pin: Pin, node: NodeId, *, name: str) -> Pin:
    """Raises NotFound; SafetyRefused for control, of which every node has a copy."""
    _role(pin, node, name)
    if pin.group == CONTROL_GROUP:
        raise SafetyRefused(
            "raft.control_everywhere",
            "every node of the cluster holds a copy of control and reads it",
            hint="take its vote with `dwctl raft member demote 0 NODE`",
        )
    return Pin(group=pin.group, roles={n: role for n, role in pin.roles.items() if n != node})


def _role(pin: Pin, node: NodeId, name: str) -> MemberRole:
    role = pin.roles.get(node)
    if role is None:
        raise NotFound(
            "raft.no_member",
            f"node {name} is no member of group {pin.group}",
            hint=f"`dwctl raft member list {pin.group}` shows them",
        )
    return role


def judge(before: Configuration, after: Pin, *, reachable: frozenset[NodeId], force: bool) -> tuple[str, ...]:
    """Remarks for the operator. Raises SafetyRefused when the members after would leave the group without a quorum,
    InvalidArgument when they make no sense, and, unless `force`, SafetyRefused when fewer losses would be survived.
    """
    voters = (*after.of(MemberRole.VOTER), *after.of(MemberRole.WITNESS))
    if not after.of(MemberRole.VOTER):
        raise SafetyRefused(
            "raft.last_voter",
            f"group {after.group} would have nobody left who votes and holds its data",
            hint="add or promote another node first",
        )
    answering = [node for node in voters if node in reachable]
    majority = len(voters) // 2 + 1
    if len(answering) < majority:
        raise SafetyRefused(
            "raft.quorum_at_risk",
            f"of the {len(voters)} voters that group {after.group} would have, {len(answering)} answer and "
            f"{majority} are needed",
            hint="bring voters back first; if they are gone for good, see `dwctl cluster recover plan`",
        )
    had, have = _losses(len(before.voters())), _losses(len(voters))
    if have < had and not force:
        raise SafetyRefused(
            "raft.fewer_losses",
            f"group {after.group} would have {len(voters)} voters and survive the loss of {have} instead of {had}",
            hint="add a voter first, or say --force",
        )
    if len(voters) % 2 == 0:
        return (f"{len(voters)} voters survive no more losses than {len(voters) - 1}: an odd number is better",)
    return ()


def _losses(voters: int) -> int:
    return (voters - 1) // 2


def role_named(name: str) -> MemberRole:
    """Raises InvalidArgument."""
    found = next((role for role in MemberRole if role.name.lower() == name), None)
    if found is None:
        known = ", ".join(role.name.lower() for role in MemberRole)
        raise InvalidArgument("raft.no_role", f"no member can be a {name[:40]!r}", hint=f"one of {known}")
    return found
