"""Who may call what on a node, and where it finds the others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dwd.base.errors import NotFound, PermissionDenied
from dwd.base.ids import NodeId, Stamp
from dwd.meta.core.control.queries import Topology
from dwd.meta.core.control.rows import RemovedNodeRow
from dwd.node.directory import Membership, load_peers, save_peers
from dwd.node.paths import Paths
from dwd.pb.admin.v1 import admin_pb2
from dwd.pb.meta.v1 import meta_pb2
from dwd.pb.raft.v1 import raft_pb2
from dwd.runtime.os_files import OsFiles
from dwd.security.peers import Peer, PeerKind
from tests.unit.node.rows import members

ADMIN = tuple(f"/dwd.admin.v1.Admin/{m.name}" for m in admin_pb2.DESCRIPTOR.services_by_name["Admin"].methods)
INNER = tuple(
    f"/{service.full_name}/{method.name}"
    for file in (raft_pb2, meta_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
)
BETWEEN_NODES = {f"/dwd.admin.v1.Admin/{m}" for m in ("NodeStatus", "ListWorkers", "SetWorker")}
JOIN = "/dwd.admin.v1.Admin/Join"


def peer(kind: PeerKind, node: int | None = None) -> Peer:
    return Peer(kind=kind, name="x", node_id=None if node is None else NodeId(node), expires_unix_ms=0)


def allowed(membership: Membership, who: Peer, method: str) -> bool:
    try:
        membership.check(who, method)
    except PermissionDenied:
        return False
    return True


@pytest.mark.parametrize("method", [*ADMIN, *INNER])
def test_each_kind_of_caller_may_call_exactly_its_methods(method: str) -> None:
    membership = Membership(NodeId(1), {})
    membership.update(members(1, 2))
    found = {kind for kind in PeerKind if allowed(membership, peer(kind, 2 if kind is PeerKind.NODE else None), method)}
    if method in INNER:
        assert found == {PeerKind.NODE}
    elif method == JOIN:
        assert found == {PeerKind.JOIN}
    elif method in BETWEEN_NODES:
        assert found == {PeerKind.NODE, PeerKind.OPERATOR}
    else:
        assert found == {PeerKind.OPERATOR}


def test_a_removed_node_is_told_so_whatever_it_asks() -> None:
    membership = Membership(NodeId(1), {})
    known = members(1)
    gone = RemovedNodeRow(node=NodeId(2), name="n2", removed=Stamp(1))
    membership.update(replace(known, removed=(gone,)))
    for method in (INNER[0], JOIN):
        with pytest.raises(PermissionDenied) as refused:
            membership.check(peer(PeerKind.NODE, 2), method)
        assert refused.value.code == "node.removed"
    with pytest.raises(PermissionDenied) as refused:
        membership.check(peer(PeerKind.NODE, 3), INNER[0])
    assert refused.value.code == "rpc.not_allowed", "nobody knows whether it joined or left"


def test_node_is_refused_when_it_is_no_member() -> None:
    membership = Membership(NodeId(1), {})
    assert allowed(membership, peer(PeerKind.NODE, 9), INNER[0]), "control must be able to come from somebody"
    membership.update(members(1, 2))
    assert not allowed(membership, peer(PeerKind.NODE, 9), INNER[0])


def test_removed_nodes_are_named_when_members_change() -> None:
    membership = Membership(NodeId(1), {NodeId(7): "h7:1"})
    assert membership.update(members(1, 2, 3)) == {7}
    assert membership.update(members(1, 3)) == {2}
    assert membership.address(NodeId(3)) == "h3:1"
    with pytest.raises(NotFound):
        membership.address(NodeId(2))


def test_newcomer_learns_addresses_until_it_has_its_own_copy_of_control() -> None:
    membership = Membership(NodeId(1), {NodeId(7): "h7:1"})
    assert membership.introduce({NodeId(8): "h8:1"})
    assert membership.addresses() == {7: "h7:1", 8: "h8:1"}
    assert not membership.introduce({NodeId(8): "h8:1"})
    membership.update(members(1, 2))
    assert not membership.introduce({NodeId(8): "h8:1"})
    with pytest.raises(NotFound):
        membership.address(NodeId(8))


@pytest.mark.parametrize("early", [members(2, 3), members(1, 2, cluster=False)])
def test_copy_of_control_that_does_not_know_this_node_changes_nothing(early: Topology) -> None:
    membership = Membership(NodeId(1), {NodeId(7): "h7:1"})
    assert membership.update(early) == frozenset()
    assert membership.addresses() == {7: "h7:1"}


def test_peers_survive_a_restart_and_a_damaged_file_is_none(tmp_path: Path) -> None:
    paths, files = Paths(identity=tmp_path / "i", data=tmp_path / "d"), OsFiles()
    assert load_peers(files, paths) == {}
    save_peers(files, paths, {NodeId(2): "h2:1", NodeId(1): "h1:1"})
    assert load_peers(files, paths) == {1: "h1:1", 2: "h2:1"}
    for damage in (b"", b"[]", b'{"xyz": "h"}', b"\xff"):
        paths.peers.write_bytes(damage)
        assert load_peers(files, paths) == {}
