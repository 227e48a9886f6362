"""What the jobs of devices share: the device that is meant, and what others tell of devices."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from dwd.base.errors import InvalidArgument, NotFound
from dwd.base.ids import DeviceId, NodeId, hex_id, parse_hex_id
from dwd.jobs.kinds import JobPlan
from dwd.meta.core.control.queries import Topology
from dwd.meta.core.control.rows import DeviceRow

DEVICE = "device"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubProgress:
    """Of one device. `order` is that of the pass under way or of the last one; `answered`: its node did, and it
    serves.
    """

    device: DeviceId
    node: NodeId
    answered: bool
    used_bytes: int = 0
    order: str = ""
    done: bool = False
    done_bytes: int = 0
    total_bytes: int = 0
    fragments: int = 0
    found: int = 0


class DeviceFleet(Protocol):
    async def devices(self, order: str) -> Mapping[DeviceId, ScrubProgress]:
        """All devices of control, as their nodes tell."""
        ...

    async def order_scrub(
        self, node: NodeId, order: str, devices: Collection[DeviceId], *, full_speed: bool, cancel: bool = False
    ) -> None:
        """Harmless when repeated. Raises Unavailable when the node does not answer."""
        ...


def device_of(topology: Topology, arguments: Mapping[str, str]) -> DeviceRow:
    """The device that the argument names, by its id or an unmistakable beginning of it. Raises InvalidArgument,
    NotFound.
    """
    text = arguments.get(DEVICE, "").lower()
    if set(arguments) - {DEVICE} or not text:
        raise InvalidArgument("device.arguments", f"say which {DEVICE}, and nothing else")
    found = [row for row in topology.devices if hex_id(row.device).startswith(text)]
    if len(found) > 1:
        raise InvalidArgument("device.ambiguous", f"{len(found)} devices begin with {text}", hint="say more of the id")
    if not found:
        raise NotFound("device.not_found", f"no device {text!r}", hint="`dwctl device list` shows them")
    return found[0]


def named(topology: Topology, row: DeviceRow) -> str:
    node = topology.node(row.node)
    return f"device {hex_id(row.device)} of {node.name if node is not None else hex_id(row.node)}"


def encode_device(row: DeviceRow, name: str, *, forced: bool = False) -> bytes:
    facts = {"device": hex_id(row.device), "name": name, "forced": forced}
    return json.dumps(facts, separators=(",", ":")).encode()


def decode_device(plan: JobPlan) -> tuple[DeviceId, str]:
    """And what people call it."""
    facts = json.loads(plan.details)
    return DeviceId(parse_hex_id(facts["device"])), facts["name"]


def is_forced(plan: JobPlan) -> bool:
    """Whether an operator was told of the harm, and wants it done."""
    forced: bool = json.loads(plan.details)["forced"]
    return forced
