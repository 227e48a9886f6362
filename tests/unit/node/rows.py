"""Rows of control as tests of a node want them."""

from __future__ import annotations

from typing import Any

from dwd.base.ids import ClusterId, DeviceId, NodeId, ShardEpoch, Stamp
from dwd.meta.core.control.queries import Topology
from dwd.meta.core.control.rows import (
    ClusterRow,
    DeviceRow,
    DeviceState,
    Domain,
    LayoutRow,
    Liveness,
    NodeAddresses,
    NodeRow,
    ShardMap,
)

CLUSTER = ClusterId("ab" * 16)


def node_row(number: int, **changes: Any) -> NodeRow:
    facts: dict[str, Any] = {
        "node": NodeId(number),
        "name": f"n{number}",
        "addresses": NodeAddresses(grpc=f"h{number}:1", s3="", admin=""),
        "domain": Domain(zone=f"z{number}"),
        "liveness": Liveness.UP,
        "liveness_since": Stamp(0),
        "sealing_key": b"",
        "sealed_keyring": b"",
        "joined": Stamp(0),
    }
    return NodeRow(**{**facts, **changes})


def device_row(number: int, **changes: Any) -> DeviceRow:
    facts: dict[str, Any] = {
        "device": DeviceId(number),
        "node": NodeId(number),
        "rack": "",
        "weight": 10,
        "capacity_bytes": 1 << 30,
        "state": DeviceState.ACTIVE,
        "state_since": Stamp(0),
        "reason": "",
    }
    return DeviceRow(**{**facts, **changes})


def topology(
    *nodes: NodeRow, cluster: bool = True, devices: tuple[DeviceRow, ...] = (), layouts: tuple[LayoutRow, ...] = ()
) -> Topology:
    whole = ClusterRow(
        cluster=CLUSTER,
        name="c",
        authority_certificate=b"",
        sealed_authority_key=b"",
        keyring_version=1,
        created=Stamp(0),
    )
    return Topology(
        cluster=whole if cluster else None,
        nodes=nodes,
        devices=devices,
        layouts=layouts,
        shard_map=ShardMap(epoch=ShardEpoch(1), ranges=()),
        settings=(),
    )


def members(*numbers: int, cluster: bool = True) -> Topology:
    return topology(*(node_row(number) for number in numbers), cluster=cluster)
