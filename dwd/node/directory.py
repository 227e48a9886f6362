"""Where nodes are and who may call: answered from this node's copy of control, and before there is one, from what the
join reply said (kept in peers.json).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import assert_never

from dwd.base.errors import DwError, NotFound, PermissionDenied
from dwd.base.ids import NodeId, hex_id, parse_hex_id
from dwd.meta.core.control.queries import Topology
from dwd.node.paths import Paths
from dwd.node.removal import refuse_removed
from dwd.runtime.files import Files
from dwd.security.peers import Peer, PeerKind

NODE_SERVICES = ("/dwd.raft.", "/dwd.meta.", "/dwd.blocks.")
OPERATOR_SERVICES = "/dwd.admin."
ADMIN_PREFIX = "/dwd.admin.v1.Admin/"
CONSENSUS_PREFIX = "/dwd.admin.v1.Consensus/"
DEVICES_PREFIX = "/dwd.admin.v1.Devices/"
HEALING_PREFIX = "/dwd.admin.v1.Healing/"
BETWEEN_NODES = frozenset(ADMIN_PREFIX + name for name in ("NodeStatus", "ListWorkers", "SetWorker")) | frozenset(
    CONSENSUS_PREFIX + name
    for name in (
        "RaftStatus",
        "ChangeMembers",
        "TransferLeadership",
        "CompactGroup",
        "Inspect",
        "PrepareRecovery",
        "CommitRecovery",
    )
)
BETWEEN_NODES |= frozenset(HEALING_PREFIX + name for name in ("HealStatus", "ListRepairs", "RetryRepairs"))
BETWEEN_NODES |= frozenset(DEVICES_PREFIX + name for name in ("ListDevices", "OrderScrub"))
NOT_FOR_OPERATORS = frozenset(CONSENSUS_PREFIX + name for name in ("PrepareRecovery", "CommitRecovery")) | frozenset(
    {DEVICES_PREFIX + "OrderScrub"}
)
OPEN_TO_JOINERS = frozenset({ADMIN_PREFIX + "Join"})


class Membership:
    """Implements `dwd.rpc` Directory and Admission. `update` gives it the newest view of control."""

    def __init__(self, own: NodeId, peers: Mapping[NodeId, str]) -> None:
        self._own = own
        self._addresses = dict(peers)
        self._members: frozenset[NodeId] | None = None
        self._removed: frozenset[NodeId] = frozenset()

    def update(self, topology: Topology) -> frozenset[NodeId]:
        """Take over addresses and members; the nodes that are no longer members."""
        if topology.cluster is None or topology.node(self._own) is None:
            return frozenset()
        members = frozenset(row.node for row in topology.nodes)
        gone = (self._members or frozenset(self._addresses)) - members
        self._members = members
        self._removed = frozenset(row.node for row in topology.removed)
        self._addresses = {row.node: row.addresses.grpc for row in topology.nodes}
        return gone

    def introduce(self, addresses: Mapping[NodeId, str]) -> bool:
        """Whether there was something to learn. Once this node has its own copy of control, only that counts."""
        if self._members is not None or all(self._addresses.get(node) == at for node, at in addresses.items()):
            return False
        self._addresses = {**self._addresses, **addresses}
        return True

    def addresses(self) -> Mapping[NodeId, str]:
        return self._addresses

    def address(self, node_id: NodeId) -> str:
        """Raises NotFound node.unknown."""
        found = self._addresses.get(node_id)
        if found is None:
            raise NotFound("node.unknown", f"no address of node {hex_id(node_id)} is known here")
        return found

    def check(self, peer: Peer, method: str) -> None:
        """Nodes call nodes, operators the admin service, joiners one method. Raises PermissionDenied.

        Before this node has a copy of control (it has just joined, or lost its disk) every node with a certificate of
        the cluster is let in: control comes from one of them.
        """
        match peer.kind:
            case PeerKind.NODE:
                if peer.node_id is not None and peer.node_id in self._removed:
                    raise refuse_removed(peer.node_id)
                known = self._members is None or peer.node_id in self._members
                allowed = known and (method.startswith(NODE_SERVICES) or method in BETWEEN_NODES)
            case PeerKind.OPERATOR:
                allowed = method.startswith(OPERATOR_SERVICES) and method not in OPEN_TO_JOINERS | NOT_FOR_OPERATORS
            case PeerKind.JOIN:
                allowed = method in OPEN_TO_JOINERS
            case _:
                assert_never(peer.kind)
        if not allowed:
            raise PermissionDenied("rpc.not_allowed", f"{peer} may not call {method}")


def load_peers(files: Files, paths: Paths) -> dict[NodeId, str]:
    """What peers.json says; nothing when there is none. It is a cache: a damaged one is as good as none."""
    if not files.exists(paths.peers):
        return {}
    try:
        document = json.loads(files.read(paths.peers))
        return {NodeId(parse_hex_id(node)): str(address) for node, address in document.items()}
    except (ValueError, AttributeError, DwError):
        return {}


def save_peers(files: Files, paths: Paths, addresses: Mapping[NodeId, str]) -> None:
    files.make_directory(paths.identity)
    content = {hex_id(node): address for node, address in sorted(addresses.items())}
    files.write_durably(paths.peers, json.dumps(content, indent=2).encode() + b"\n")
