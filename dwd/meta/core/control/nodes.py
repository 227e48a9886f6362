"""AddNode, UpdateNode, RemoveNode, SetNodeLiveness, SetNodeStanding; AddDevice, SetDeviceState,
SetDeviceDraining.
"""

from __future__ import annotations

from dwd.base.errors import AlreadyExists, Busy, Conflict, InvalidArgument, NotFound, PermissionDenied, SafetyRefused
from dwd.base.ids import ID_BITS, DeviceId, NodeId, hex_id
from dwd.meta.core.control.commands import (
    AddDevice,
    AddNode,
    RemoveNode,
    SetDeviceDraining,
    SetDeviceState,
    SetNodeLiveness,
    SetNodeStanding,
    UpdateNode,
)
from dwd.meta.core.control.keys import require_keyring
from dwd.meta.core.control.rows import DeviceState, Liveness, NodeStanding
from dwd.meta.core.control.state import Control, Part, check_blob, check_name, check_text
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.tx import At
from dwd.meta.core.versions import OLDEST

NODES_MAX = 1_000
DEVICES_PER_NODE_MAX = 256
REMOVED_MAX = 1_000
"""Removed nodes that are remembered; past it the oldest are forgotten, which then are merely unknown."""
FINAL_STATES = (DeviceState.LOST, DeviceState.RETIRED)


def _require_node(control: Control, node: NodeId) -> None:
    if control.tx.row("SELECT 1 FROM nodes WHERE node = ?", (node,)) is None:
        raise NotFound("meta.no_such_node", f"node {hex_id(node)} is not of this cluster")


def add_node(control: Control, command: AddNode, at: At) -> Receipt:
    if not 0 < command.node < 1 << ID_BITS:
        raise InvalidArgument("meta.node_id", "a node id is a positive number of 63 bits")
    check_name(command.name, "a node's name")
    addresses, domain = command.addresses, command.domain
    check_text(addresses.grpc, addresses.s3, addresses.admin, domain.region, domain.zone, domain.rack)
    check_blob(command.sealing_key, command.sealed_keyring)
    require_keyring(control, command.keyring_version)
    named = control.tx.row("SELECT node FROM nodes WHERE name = ?", (command.name,))
    if named is not None and named[0] != command.node:
        raise AlreadyExists("meta.node_name_taken", f"another node is named {command.name}")
    if control.tx.row("SELECT 1 FROM removed_nodes WHERE node = ?", (command.node,)) is not None:
        raise PermissionDenied(
            "meta.node_removed",
            f"node {hex_id(command.node)} was removed from the cluster",
            hint="empty its directories and join it as a new node, with a new token",
        )
    known = control.tx.row(
        "SELECT joined, sealing_key, version_newest, standing, standing_since FROM nodes WHERE node = ?",
        (command.node,),
    )
    if known is not None and known[1] != command.sealing_key:
        raise PermissionDenied("meta.node_is_another", f"node {hex_id(command.node)} is a member with another key")
    count = control.tx.row("SELECT count(*) FROM nodes") or (0,)
    if known is None and count[0] >= NODES_MAX:
        raise Busy("meta.nodes", f"a region may have {NODES_MAX} nodes")

    control.tx.run(
        "INSERT OR REPLACE INTO nodes VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            command.node,
            command.name,
            addresses.grpc,
            addresses.s3,
            addresses.admin,
            domain.region,
            domain.zone,
            domain.rack,
            command.sealing_key,
            command.sealed_keyring,
            Liveness.UP,
            at.stamp,
            at.stamp if known is None else known[0],
            OLDEST if known is None else known[2],
            NodeStanding.ACTIVE if known is None else known[3],
            at.stamp if known is None else known[4],
        ),
    )
    control.touched.add(Part.TOPOLOGY)
    return Receipt(index=at.index, stamp=at.stamp, existed=known is not None)


def update_node(control: Control, command: UpdateNode, at: At) -> Receipt:
    addresses, domain = command.addresses, command.domain
    check_text(addresses.grpc, addresses.s3, addresses.admin, domain.region, domain.zone, domain.rack)
    _require_node(control, command.node)
    control.tx.run(
        "UPDATE nodes SET grpc = ?, s3 = ?, admin = ?, region = ?, zone = ?, rack = ?, version_newest = ?"
        " WHERE node = ?",
        (
            addresses.grpc,
            addresses.s3,
            addresses.admin,
            domain.region,
            domain.zone,
            domain.rack,
            max(OLDEST, command.version_newest),
            command.node,
        ),
    )
    control.touched.add(Part.TOPOLOGY)
    return Receipt(index=at.index, stamp=at.stamp, existed=True)


def remove_node(control: Control, command: RemoveNode, at: At) -> Receipt:
    holding = control.tx.row(
        "SELECT device FROM devices WHERE node = ? AND state NOT IN (?, ?) LIMIT 1", (command.node, *FINAL_STATES)
    )
    if holding is not None:
        raise SafetyRefused(
            "meta.node_holds_data",
            f"device {hex_id(holding[0])} of the node still holds data",
            hint="drain the node, or declare its devices lost",
        )
    found = control.tx.row("SELECT name, standing FROM nodes WHERE node = ?", (command.node,))
    if found is not None and found[1] == NodeStanding.ACTIVE:
        raise SafetyRefused("meta.node_is_active", f"node {found[0]} is active", hint="drain it first")
    if found is not None:
        _remember_removed(control, command.node, found[0], at)
    control.tx.run("DELETE FROM nodes WHERE node = ?", (command.node,))
    existed = found is not None
    control.tx.run("DELETE FROM devices WHERE node = ?", (command.node,))
    control.touched.add(Part.TOPOLOGY)
    return Receipt(index=at.index, stamp=at.stamp, existed=existed)


def _remember_removed(control: Control, node: NodeId, name: str, at: At) -> None:
    control.tx.run("INSERT OR REPLACE INTO removed_nodes VALUES (?, ?, ?)", (node, name, at.stamp))
    control.tx.run(
        "DELETE FROM removed_nodes WHERE node IN"
        " (SELECT node FROM removed_nodes ORDER BY removed DESC, node LIMIT -1 OFFSET ?)",
        (REMOVED_MAX,),
    )


def set_node_standing(control: Control, command: SetNodeStanding, at: At) -> Receipt:
    found = control.tx.row("SELECT name, standing FROM nodes WHERE node = ?", (command.node,))
    if found is None:
        raise NotFound("meta.no_such_node", f"node {hex_id(command.node)} is not of this cluster")
    name, standing = found
    if command.standing is NodeStanding.DRAINED and standing == NodeStanding.ACTIVE:
        raise Conflict("meta.node_not_draining", f"node {name} is active, so it is not drained")
    others = control.tx.row("SELECT 1 FROM nodes WHERE node <> ? AND standing = ?", (command.node, NodeStanding.ACTIVE))
    if command.standing is not NodeStanding.ACTIVE and others is None:
        raise SafetyRefused(
            "meta.last_active_node", f"node {name} is the last active one", hint="add a node, or undrain another"
        )
    if standing != command.standing:
        control.tx.run(
            "UPDATE nodes SET standing = ?, standing_since = ? WHERE node = ?",
            (command.standing, at.stamp, command.node),
        )
        control.touched.add(Part.TOPOLOGY)
    return Receipt(index=at.index, stamp=at.stamp, existed=True)


def set_node_liveness(control: Control, command: SetNodeLiveness, at: At) -> Receipt:
    _require_node(control, command.node)
    control.tx.run(
        "UPDATE nodes SET liveness = ?1, liveness_since = ?2 WHERE node = ?3 AND liveness <> ?1",
        (command.liveness, at.stamp, command.node),
    )
    if control.tx.changed():
        control.touched.add(Part.TOPOLOGY)
    return Receipt(index=at.index, stamp=at.stamp, existed=True)


def add_device(control: Control, command: AddDevice, at: At) -> Receipt:
    if not 0 < command.device < 1 << ID_BITS:
        raise InvalidArgument("meta.device_id", "a device id is a positive number of 63 bits")
    if command.weight < 0 or command.capacity_bytes < 0:
        raise InvalidArgument("meta.device_weight", "weight and capacity are not negative")
    check_text(command.rack, command.zone)
    _require_node(control, command.node)
    known = _device(control, command.device)
    if known is not None and known[0] != command.node:
        raise Conflict("meta.device_elsewhere", "a device of this id belongs to another node", node=known[0])
    count = control.tx.row("SELECT count(*) FROM devices WHERE node = ?", (command.node,)) or (0,)
    if known is None and count[0] >= DEVICES_PER_NODE_MAX:
        raise Busy("meta.devices", f"a node may have {DEVICES_PER_NODE_MAX} devices")

    if known is None:
        control.tx.run(
            "INSERT INTO devices VALUES (?, ?, ?, ?, ?, ?, '', ?, ?, 0)",
            (
                command.device,
                command.node,
                command.weight,
                command.capacity_bytes,
                DeviceState.ACTIVE,
                at.stamp,
                command.rack,
                command.zone,
            ),
        )
    else:
        control.tx.run(
            "UPDATE devices SET weight = ?, capacity_bytes = ?, rack = ?, zone = ? WHERE device = ?",
            (command.weight, command.capacity_bytes, command.rack, command.zone, command.device),
        )
    control.touched.add(Part.TOPOLOGY)
    return Receipt(index=at.index, stamp=at.stamp, existed=known is not None)


def set_device_state(control: Control, command: SetDeviceState, at: At) -> Receipt:
    check_text(command.reason)
    if command.state is DeviceState.DRAINING:
        raise InvalidArgument("meta.device_state", "draining is wished for, not reported: SetDeviceDraining")
    known = _require_device(control, command.device)
    retiring = known[1] == DeviceState.LOST and command.state is DeviceState.RETIRED
    if known[1] in FINAL_STATES and known[1] != command.state and not retiring:
        raise Conflict("meta.device_gone", "the device was given up; what comes back must join as a new one")
    if known[1] != command.state:
        control.tx.run(
            "UPDATE devices SET state = ?, state_since = ?, reason = ? WHERE device = ?",
            (command.state, at.stamp, command.reason, command.device),
        )
        control.touched.add(Part.TOPOLOGY)
    return Receipt(index=at.index, stamp=at.stamp, existed=True)


def set_device_draining(control: Control, command: SetDeviceDraining, at: At) -> Receipt:
    known = _require_device(control, command.device)
    if known[1] in FINAL_STATES:
        raise Conflict("meta.device_gone", "the device was given up: there is nothing to drain")
    control.tx.run(
        "UPDATE devices SET draining = ?1 WHERE device = ?2 AND draining <> ?1", (command.draining, command.device)
    )
    if control.tx.changed():
        control.touched.add(Part.TOPOLOGY)
    return Receipt(index=at.index, stamp=at.stamp, existed=True)


def _require_device(control: Control, device: DeviceId) -> tuple[int, int]:
    known = _device(control, device)
    if known is None:
        raise NotFound("meta.no_such_device", f"device {hex_id(device)} is not of this cluster")
    return known


def _device(control: Control, device: DeviceId) -> tuple[int, int] | None:
    """(node, state)."""
    row = control.tx.row("SELECT node, state FROM devices WHERE device = ?", (device,))
    return None if row is None else (row[0], row[1])
