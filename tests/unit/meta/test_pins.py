"""Members that an operator chose: kept as text, changed by verbs, refused where the group would stop."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from dwd.base.errors import AlreadyExists, Corrupt, InvalidArgument, NotFound, SafetyRefused
from dwd.base.ids import CONTROL_GROUP, GroupId, NodeId, ReplicaId
from dwd.meta.core import pins
from dwd.meta.core.membership import outstanding, wanted
from dwd.meta.core.pins import Pin
from dwd.raft.core.types import Configuration, Member, MemberRole

GROUP = GroupId(7)
ROLES = {"v": MemberRole.VOTER, "l": MemberRole.LEARNER, "w": MemberRole.WITNESS}


def pin(group: GroupId = GROUP, **roles: str) -> Pin:
    """Nodes by role, each a digit."""
    return Pin(group=group, roles={NodeId(int(n)): ROLES[name] for name, nodes in roles.items() for n in nodes})


def told(found: Pin) -> dict[str, str]:
    names = {role: name for name, role in ROLES.items()}
    shown: dict[str, str] = {}
    for node, role in sorted(found.roles.items()):
        shown[names[role]] = shown.get(names[role], "") + str(node)
    return shown


def configuration(roles: Mapping[str, str]) -> Configuration:
    return Configuration(
        members=tuple(
            Member(node=node, replica=ReplicaId(100 + node), role=role) for node, role in pin(**roles).roles.items()
        )
    )


def node(number: int) -> NodeId:
    return NodeId(number)


@pytest.mark.parametrize("roles", [{"v": "1"}, {"v": "123", "l": "45", "w": "6"}, {}])
def test_pin_comes_back_as_it_was_written(roles: dict[str, str]) -> None:
    made = pin(**roles)
    again = pins.decode_pin(GROUP, pins.encode_pin(made))
    assert (again.roles if again else {}) == made.roles


def test_pin_of_sixty_members_fits_a_setting() -> None:
    assert len(pins.encode_pin(Pin(group=GROUP, roles={NodeId(n): MemberRole.VOTER for n in range(59)}))) <= 1_024


@pytest.mark.parametrize("text", ["voter", "voter=12", "boss=0000000000000001", "voter=0000000000000001,", " "])
def test_damaged_pin_is_refused(text: str) -> None:
    with pytest.raises(Corrupt):
        pins.decode_pin(GROUP, text)


def test_verbs_change_one_member() -> None:
    base = pin(v="123")
    assert told(pins.add(base, node(4), MemberRole.LEARNER, name="n4")) == {"v": "123", "l": "4"}
    assert told(pins.promote(pin(v="12", l="3"), node(3), name="n3")) == {"v": "123"}
    assert told(pins.demote(base, node(3), name="n3")) == {"v": "12", "l": "3"}
    assert told(pins.remove(base, node(3), name="n3")) == {"v": "12"}
    assert told(base) == {"v": "123"}


def test_verbs_are_refused_when_they_make_no_sense() -> None:
    base = pin(v="12", l="3")
    for work, kind in (
        (lambda: pins.add(base, node(3), MemberRole.VOTER, name="n3"), AlreadyExists),
        (lambda: pins.promote(base, node(1), name="n1"), AlreadyExists),
        (lambda: pins.demote(base, node(3), name="n3"), AlreadyExists),
        (lambda: pins.promote(base, node(9), name="n9"), NotFound),
        (lambda: pins.remove(base, node(9), name="n9"), NotFound),
        (lambda: pins.role_named("boss"), InvalidArgument),
        (lambda: pins.remove(pin(CONTROL_GROUP, v="12"), node(2), name="n2"), SafetyRefused),
    ):
        with pytest.raises(kind):
            work()


def test_listener_of_control_may_be_added_as_a_voter() -> None:
    assert told(pins.add(pin(CONTROL_GROUP, v="1", l="2"), node(2), MemberRole.VOTER, name="n2")) == {"v": "12"}


def judged(before: dict[str, str], after: dict[str, str], up: str = "123456789", *, force: bool = False) -> Any:
    reachable = frozenset(NodeId(int(n)) for n in up)
    return pins.judge(configuration(before), pin(**after), reachable=reachable, force=force)


def test_change_is_refused_when_those_who_answer_would_be_no_quorum() -> None:
    for after, up in (({"v": "12"}, "1"), ({"v": "123"}, "3"), ({"v": "12345"}, "12"), ({"v": "1", "w": "23"}, "1")):
        with pytest.raises(SafetyRefused) as caught:
            judged({"v": "123"}, after, up, force=True)
        assert caught.value.code == "raft.quorum_at_risk"


def test_change_is_refused_when_nobody_would_hold_the_data() -> None:
    for after in ({"l": "12"}, {"w": "123"}, {}):
        with pytest.raises(SafetyRefused) as caught:
            judged({"v": "12"}, after, force=True)
        assert caught.value.code == "raft.last_voter"


def test_change_needs_force_when_fewer_losses_would_be_survived() -> None:
    with pytest.raises(SafetyRefused) as caught:
        judged({"v": "123"}, {"v": "12"})
    assert (caught.value.code, "--force" in caught.value.hint) == ("raft.fewer_losses", True)
    assert "odd number" in judged({"v": "123"}, {"v": "12"}, force=True)[0]
    assert judged({"v": "123"}, {"v": "1"}, force=True) == ()
    assert judged({"v": "12345"}, {"v": "1234"}, force=True)
    assert judged({"v": "1234"}, {"v": "123"}) == ()


def topology(setting: str, nodes: int) -> Any:
    rows = tuple(SimpleNamespace(node=NodeId(n)) for n in range(1, nodes + 1))
    return SimpleNamespace(nodes=rows, setting=lambda name: setting)


def test_pinned_members_are_wanted_as_far_as_their_nodes_are_there() -> None:
    text = pins.encode_pin(pin(v="129", l="3", w="4"))
    found = wanted(topology(text, 4), GROUP, configuration({"v": "1"}))
    assert (found.voters, found.learners, found.witnesses) == ((1, 2), (3,), (4,))
    control = wanted(topology(text, 6), CONTROL_GROUP, configuration({"v": "1"}))
    assert (control.voters, control.learners, control.witnesses) == ((1, 2), (3, 5, 6), (4,))


def test_what_is_outstanding_is_told_member_by_member() -> None:
    found = wanted(topology(pins.encode_pin(pin(v="12", l="3")), 4), GROUP, configuration({"v": "1"}))
    assert outstanding(found, configuration({"v": "13", "l": "2", "w": "4"})) == (
        (2, "is to become a voter, is a learner"),
        (3, "is to become a learner, is a voter"),
        (4, "is to leave"),
    )
    assert outstanding(found, configuration({"v": "12", "l": "3"})) == ()
