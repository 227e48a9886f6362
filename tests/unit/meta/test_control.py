"""Commands of the control group."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dwd.base.errors import Busy, Conflict, DwError, NotFound, PermissionDenied
from dwd.base.ids import ClusterId, DeviceId, GroupId, LayoutEpoch, NodeId, ShardEpoch
from dwd.base.policy import Criticality, Policy, Tier
from dwd.meta.core.control.commands import (
    AddDevice,
    AddNode,
    ApplyLayout,
    BeginDeleteBucket,
    CancelDeleteBucket,
    CreateAccessKey,
    CreateBucket,
    CreateJoinToken,
    CreateUser,
    DeleteAccessKey,
    DeleteUser,
    FinishDeleteBucket,
    InitialiseCluster,
    RemoveNode,
    SetAccessKeyState,
    SetBucketPolicy,
    SetDeviceDraining,
    SetDeviceState,
    SetNodeLiveness,
    SetNodeStanding,
    SetSetting,
    SetShardMap,
    UpdateNode,
    UseJoinToken,
)
from dwd.meta.core.control.queries import (
    GetAccessKey,
    GetBucket,
    GetJoinToken,
    GetTopology,
    ListAccessKeys,
    ListBuckets,
    ListUsers,
)
from dwd.meta.core.control.rows import (
    BucketState,
    DeviceState,
    Domain,
    Liveness,
    NodeAddresses,
    NodeStanding,
    ShardRange,
    Standing,
)
from tests.twins.meta_group import EPOCH_MS, Group

WHOLE = (ShardRange(start=b"", group=GroupId(1)),)


def initialise(cluster: str = "ab" * 16, **changes: Any) -> InitialiseCluster:
    facts: dict[str, Any] = {
        "cluster": ClusterId(cluster), "name": "c", "authority_certificate": b"pem", "sealed_authority_key": b"sealed",
        "keyring_version": 1, "shards": WHOLE,
    }  # fmt: skip
    return InitialiseCluster(**{**facts, **changes})


def add_node(node: int = 1, name: str = "n1") -> AddNode:
    return AddNode(
        node=NodeId(node), name=name, addresses=NodeAddresses(grpc="g", s3="s", admin="a"), domain=Domain(zone="z"),
        sealing_key=b"public", sealed_keyring=b"sealed",
    )  # fmt: skip


def add_device(device: int = 5, node: int = 1, weight: int = 10) -> AddDevice:
    return AddDevice(device=DeviceId(device), node=NodeId(node), weight=weight, capacity_bytes=1 << 30)


def set_state(device: int, state: DeviceState) -> SetDeviceState:
    return SetDeviceState(device=DeviceId(device), state=state, reason="r")


def stand(node: int, standing: NodeStanding) -> SetNodeStanding:
    return SetNodeStanding(node=NodeId(node), standing=standing)


DRAINED = [
    add_node(), add_node(2, "n2"), stand(1, NodeStanding.DRAINING), stand(1, NodeStanding.DRAINED)
]  # fmt: skip


def drain(device: int, wanted: bool = True) -> SetDeviceDraining:
    return SetDeviceDraining(device=DeviceId(device), draining=wanted)


def bucket(name: str = "b", owner: str = "u") -> CreateBucket:
    return CreateBucket(name=name, owner=owner, profile="rs-4-2")


def token(name: str = "t", *, expires: int = EPOCH_MS + 60_000) -> CreateJoinToken:
    return CreateJoinToken(token=name, digest=b"d" * 32, expires_unix_ms=expires)


KEY = CreateAccessKey(access_key="AK", user="u", sealed_secret=b"sealed")

REFUSALS: list[tuple[list[Any], Any, str]] = [
    ([initialise()], initialise("cd" * 16), "meta.cluster_exists"),
    ([], initialise("short"), "meta.cluster_id"),
    ([], initialise(shards=()), "meta.shard_ranges"),
    ([], initialise(shards=(ShardRange(start=b"x", group=GroupId(1)),)), "meta.shard_ranges"),
    ([], initialise(shards=(*WHOLE, *WHOLE)), "meta.shard_ranges"),
    ([initialise()], SetShardMap(epoch=ShardEpoch(3), ranges=WHOLE), "meta.shard_epoch"),
    ([add_node()], add_node(2, "n1"), "meta.node_name_taken"),
    ([], UpdateNode(node=NodeId(9), addresses=add_node().addresses, domain=Domain()), "meta.no_such_node"),
    ([], SetNodeLiveness(node=NodeId(9), liveness=Liveness.DOWN), "meta.no_such_node"),
    ([], add_device(), "meta.no_such_node"),
    ([add_node(), add_node(2, "n2"), add_device()], add_device(node=2), "meta.device_elsewhere"),
    ([add_node(), add_device()], RemoveNode(node=NodeId(1)), "meta.node_holds_data"),
    ([add_node()], RemoveNode(node=NodeId(1)), "meta.node_is_active"),
    ([], stand(9, NodeStanding.DRAINING), "meta.no_such_node"),
    ([add_node(), add_node(2, "n2")], stand(1, NodeStanding.DRAINED), "meta.node_not_draining"),
    ([add_node()], stand(1, NodeStanding.DRAINING), "meta.last_active_node"),
    ([*DRAINED], stand(2, NodeStanding.DRAINING), "meta.last_active_node"),
    ([*DRAINED, RemoveNode(node=NodeId(1))], add_node(), "meta.node_removed"),
    ([], set_state(5, DeviceState.LOST), "meta.no_such_device"),
    (
        [add_node(), add_device(), set_state(5, DeviceState.LOST)],
        set_state(5, DeviceState.ACTIVE),
        "meta.device_gone",
    ),
    ([add_node(), add_device()], set_state(5, DeviceState.DRAINING), "meta.device_state"),
    ([], drain(5), "meta.no_such_device"),
    ([add_node(), add_device(), set_state(5, DeviceState.RETIRED)], drain(5), "meta.device_gone"),
    ([], ApplyLayout(epoch=LayoutEpoch(2), layout=b"l"), "meta.layout_epoch"),
    (
        [ApplyLayout(epoch=LayoutEpoch(1), layout=b"l")],
        ApplyLayout(epoch=LayoutEpoch(1), layout=b"other"),
        "meta.layout_epoch",
    ),
    ([], bucket(), "meta.no_such_user"),
    ([CreateUser(name="u"), bucket()], bucket(), "objects.bucket_owned_by_you"),
    ([CreateUser(name="u"), bucket()], bucket(owner="v"), "objects.bucket_exists"),
    ([], BeginDeleteBucket(name="b"), "objects.no_such_bucket"),
    ([CreateUser(name="u"), bucket()], FinishDeleteBucket(name="b", epoch=1), "meta.bucket_not_deleting"),
    ([CreateUser(name="u")], CreateUser(name="u"), "meta.user_exists"),
    ([CreateUser(name="u"), bucket()], DeleteUser(name="u"), "meta.user_owns_buckets"),
    ([], KEY, "meta.no_such_user"),
    ([CreateUser(name="u"), KEY], KEY, "meta.access_key_exists"),
    ([], SetAccessKeyState(access_key="AK", standing=Standing.DISABLED), "meta.no_such_access_key"),
    ([], UseJoinToken(token="t", node=NodeId(1)), "meta.token_unknown"),
    ([token(expires=EPOCH_MS - 1)], UseJoinToken(token="t", node=NodeId(1)), "meta.token_expired"),
    ([token(), UseJoinToken(token="t", node=NodeId(1))], UseJoinToken(token="t", node=NodeId(2)), "meta.token_used"),
    ([], SetSetting(name="", value="v"), "meta.name"),
    ([], SetSetting(name="s", value="b", expected="a"), "meta.setting_changed"),
    ([SetSetting(name="s", value="x")], SetSetting(name="s", value="b", expected=""), "meta.setting_changed"),
]


@pytest.mark.parametrize(("before", "command", "code"), REFUSALS, ids=[code for _, _, code in REFUSALS])
def test_command_is_refused_when_it_does_not_fit(control: Group, before: list[Any], command: Any, code: str) -> None:
    for earlier in before:
        control.send(earlier)
    topology = control.ask(GetTopology())
    with pytest.raises(DwError) as refused:
        control.send(command)
    assert refused.value.code == code
    assert control.ask(GetTopology()) == topology


@pytest.mark.parametrize(
    ("before", "command"),
    [
        ([], initialise()),
        ([], add_node()),
        ([add_node()], add_device()),
        ([add_node(), add_device()], set_state(5, DeviceState.FAILED)),
        ([add_node(), add_device()], drain(5)),
        ([add_node()], SetNodeLiveness(node=NodeId(1), liveness=Liveness.DOWN)),
        ([token()], UseJoinToken(token="t", node=NodeId(1))),
        ([], SetSetting(name="s", value="v")),
        ([], SetSetting(name="s", value="v", expected="")),
        ([CreateUser(name="u"), bucket()], BeginDeleteBucket(name="b")),
        ([CreateUser(name="u"), KEY], DeleteAccessKey(access_key="AK")),
        ([add_node(), add_node(2, "n2")], stand(1, NodeStanding.DRAINING)),
        (DRAINED, stand(1, NodeStanding.ACTIVE)),
        (DRAINED, RemoveNode(node=NodeId(1))),
    ],
)
def test_command_changes_nothing_when_sent_again(control: Group, before: list[Any], command: Any) -> None:
    for earlier in (*before, command):
        control.send(earlier)
    names = (
        "nodes", "removed_nodes", "devices", "buckets", "users", "access_keys", "join_tokens", "cluster", "shard_ranges"
    )  # fmt: skip
    rows = {name: control.sql(f"SELECT * FROM {name}") for name in names}
    control.send(command)
    after = {name: control.sql(f"SELECT * FROM {name}") for name in names}
    if isinstance(command, AddNode):  # it says the node is up now
        rows["nodes"], after["nodes"] = ([row[:11] + row[12:] for row in r["nodes"]] for r in (rows, after))
    assert rows == after


def test_a_node_keeps_its_standing_when_it_is_admitted_again(control: Group) -> None:
    for command in (*DRAINED, add_node()):
        control.send(command)
    assert control.ask(GetTopology()).nodes[0].standing is NodeStanding.DRAINED


def test_a_removed_node_is_remembered_and_its_name_is_free(control: Group) -> None:
    for command in (*DRAINED, RemoveNode(node=NodeId(1)), add_node(3, "n1")):
        control.send(command)
    topology = control.ask(GetTopology())
    assert [(row.node, row.name) for row in topology.removed] == [(1, "n1")]
    assert [(row.node, row.name) for row in topology.nodes] == [(2, "n2"), (3, "n1")]


def test_topology_shows_what_was_said(control: Group) -> None:
    for command in (initialise(), add_node(), add_device(), ApplyLayout(epoch=LayoutEpoch(1), layout=b"one")):
        control.send(command)
    control.send(ApplyLayout(epoch=LayoutEpoch(2), layout=b"two"))
    topology = control.ask(GetTopology())
    assert topology.cluster is not None
    assert (topology.cluster.cluster, topology.cluster.sealed_authority_key) == ("ab" * 16, b"sealed")
    assert topology.nodes[0].domain.zone == "z"
    assert topology.devices[0].state is DeviceState.ACTIVE
    assert [layout.layout for layout in topology.layouts] == [b"one", b"two"]
    assert topology.layout == topology.layouts[1]
    assert (topology.shard_map.epoch, topology.shard_map.ranges) == (1, WHOLE)


def test_a_device_goes_on_draining_when_it_fails_and_returns(control: Group) -> None:
    def device() -> tuple[DeviceState, bool]:
        (row,) = control.ask(GetTopology()).devices
        return row.state, row.draining

    steps = [
        (drain(5), (DeviceState.DRAINING, True)),
        (set_state(5, DeviceState.FAILED), (DeviceState.FAILED, True)),
        (set_state(5, DeviceState.READ_ONLY), (DeviceState.READ_ONLY, True)),
        (set_state(5, DeviceState.ACTIVE), (DeviceState.DRAINING, True)),
        (add_device(weight=3), (DeviceState.DRAINING, True)),
        (drain(5, wanted=False), (DeviceState.ACTIVE, False)),
    ]
    control.send(add_node())
    control.send(add_device())
    for command, expected in steps:
        control.send(command)
        assert device() == expected, command


def test_a_device_may_be_of_another_zone_and_rack_than_its_node(control: Group) -> None:
    control.send(add_node())
    control.send(replace(add_device(), zone="z2", rack="r2"))
    (row,) = control.ask(GetTopology()).devices
    assert (row.zone, row.rack) == ("z2", "r2")
    control.send(replace(add_device(), rack="r3"))
    (row,) = control.ask(GetTopology()).devices
    assert (row.zone, row.rack) == ("", "r3")


def test_a_stranger_cannot_join_as_a_node_that_is_there(control: Group) -> None:
    control.send(add_node())
    before = control.sql("SELECT * FROM nodes")
    with pytest.raises(PermissionDenied, match="another key"):
        control.send(
            replace(add_node(), sealing_key=b"a stranger's", addresses=NodeAddresses(grpc="x", s3="", admin=""))
        )
    assert control.sql("SELECT * FROM nodes") == before


def test_liveness_stamp_moves_only_at_transitions(control: Group) -> None:
    control.send(add_node())
    since = control.ask(GetTopology()).nodes[0].liveness_since
    control.send(SetNodeLiveness(node=NodeId(1), liveness=Liveness.UP))
    assert control.ask(GetTopology()).nodes[0].liveness_since == since
    control.send(SetNodeLiveness(node=NodeId(1), liveness=Liveness.DOWN))
    assert control.ask(GetTopology()).nodes[0].liveness_since > since


def test_bucket_gets_new_epoch_when_its_deletion_is_cancelled(control: Group) -> None:
    control.send(CreateUser(name="u"))
    created = control.send(bucket()).count
    begun = control.send(BeginDeleteBucket(name="b")).count
    assert begun > created
    assert control.send(BeginDeleteBucket(name="b")).count == begun
    row = control.ask(GetBucket(name="b")).bucket
    assert row is not None
    assert row.state is BucketState.DELETING
    renewed = control.send(CancelDeleteBucket(name="b", epoch=begun)).count
    assert renewed > begun
    again = control.send(BeginDeleteBucket(name="b")).count
    assert again > renewed
    with pytest.raises(DwError):
        control.send(FinishDeleteBucket(name="b", epoch=begun))
    assert control.send(FinishDeleteBucket(name="b", epoch=again)).existed
    assert not control.send(FinishDeleteBucket(name="b", epoch=again)).existed


def test_deletion_of_another_is_gone_on_with_only_under_its_epoch(control: Group) -> None:
    control.send(CreateUser(name="u"))
    control.send(bucket())
    begun = control.send(BeginDeleteBucket(name="b")).count
    control.send(FinishDeleteBucket(name="b", epoch=begun))
    control.send(bucket())
    with pytest.raises(Conflict):
        control.send(BeginDeleteBucket(name="b", epoch=begun))
    row = control.ask(GetBucket(name="b")).bucket
    assert row is not None
    assert row.state is BucketState.ACTIVE
    begun = control.send(BeginDeleteBucket(name="b")).count
    assert control.send(BeginDeleteBucket(name="b", epoch=begun)).count == begun


def test_keys_go_with_their_user(control: Group) -> None:
    for command in (CreateUser(name="u", admin=True), KEY):
        control.send(command)
    answer = control.ask(GetAccessKey(access_key="AK"))
    assert answer.key is not None
    assert answer.user is not None
    assert (answer.key.sealed_secret, answer.user.admin) == (b"sealed", True)
    assert "sealed" not in repr(answer.key)
    assert len(control.ask(ListAccessKeys(user="u")).keys) == 1
    control.send(DeleteUser(name="u"))
    assert control.ask(GetAccessKey(access_key="AK")).key is None


def test_pages_go_on_where_they_ended(control: Group) -> None:
    control.send(CreateUser(name="u"))
    control.send(CreateUser(name="v"))
    for n in range(5):
        control.send(bucket(f"b{n}", "v" if n == 3 else "u"))
    first = control.ask(ListBuckets(limit=2))
    assert ([b.name for b in first.buckets], first.more) == (["b0", "b1"], True)
    assert [b.name for b in control.ask(ListBuckets(after="b1")).buckets] == ["b2", "b3", "b4"]
    assert [b.name for b in control.ask(ListBuckets(owner="v")).buckets] == ["b3"]
    assert [u.name for u in control.ask(ListUsers(after="u")).users] == ["v"]


def test_expired_tokens_are_swept_when_another_is_made(control: Group) -> None:
    control.send(token("old", expires=EPOCH_MS - 1))
    control.send(token("new"))
    assert control.ask(GetJoinToken(token="old")).token is None
    assert control.ask(GetJoinToken(token="new")).token is not None


def test_node_is_taken_to_know_the_oldest_version_until_it_says_more(control: Group) -> None:
    def known() -> int:
        return control.ask(GetTopology()).nodes[0].version_newest

    def update(version: int) -> UpdateNode:
        return UpdateNode(node=NodeId(1), addresses=add_node().addresses, domain=Domain(), version_newest=version)

    control.send(add_node())
    assert known() == 1
    control.send(update(3))
    assert known() == 3
    control.send(add_node())
    assert known() == 3, "admitted again, it knows what it knew"
    control.send(update(0))
    assert known() == 1, "a daemon that does not speak of versions"


def test_a_buckets_policy_is_set_under_a_new_epoch_when_it_differs(control: Group) -> None:
    control.send(CreateUser(name="u"))
    before = control.send(CreateBucket(name="b", owner="u", profile="rs-4-2")).count
    wished = SetBucketPolicy(
        name="b", profile="auto", tier=Tier.ENTERPRISE, criticality=Criticality.HIGH, allow_fallback=True
    )
    with pytest.raises(Conflict, match="changed meanwhile"):
        control.send(replace(wished, expected_epoch=before + 1))
    epoch = control.send(replace(wished, expected_epoch=before)).count
    assert epoch > before
    row = control.ask(GetBucket(name="b")).bucket
    assert row is not None
    assert (row.epoch, row.policy) == (
        epoch,
        Policy(profile="auto", tier=Tier.ENTERPRISE, criticality=Criticality.HIGH, allow_fallback=True),
    )
    again = control.send(replace(wished, expected_epoch=before))
    assert (again.count, again.existed) == (epoch, True), "a runner that goes on after another finds it done"
    with pytest.raises(NotFound):
        control.send(replace(wished, name="nothing"))
    control.send(BeginDeleteBucket(name="b"))
    with pytest.raises(Busy):
        control.send(replace(wished, profile="none"))
