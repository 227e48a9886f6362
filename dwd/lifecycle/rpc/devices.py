"""Devices of all nodes, asked over gRPC."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from dwd.base.ids import DeviceId, NodeId, hex_id, parse_hex_id
from dwd.lifecycle.device_facts import ScrubProgress
from dwd.pb.admin.v1 import devices_pb2 as pb
from dwd.pb.admin.v1 import devices_pb2_grpc
from dwd.rpc.calls import call
from dwd.rpc.channels import Channels

LIST_SECONDS = 10.0
ORDER_SECONDS = 10.0
SERVING = frozenset({"active", "draining", "read_only"})


class GrpcDeviceFleet:
    """`dwd.lifecycle.device_facts.DeviceFleet`. The list is asked of this node, over the wire as of any other."""

    def __init__(self, node: NodeId, channels: Channels) -> None:
        self._node = node
        self._channels = channels

    async def devices(self, order: str) -> Mapping[DeviceId, ScrubProgress]:
        stub = devices_pb2_grpc.DevicesStub(self._channels.to(self._node))
        reply = await call(stub.ListDevices, pb.ListDevicesRequest(), seconds=LIST_SECONDS, mutation=False)
        return {DeviceId(parse_hex_id(device.id)): _progress(device, order) for device in reply.devices}

    async def order_scrub(
        self, node: NodeId, order: str, devices: Collection[DeviceId], *, full_speed: bool, cancel: bool = False
    ) -> None:
        stub = devices_pb2_grpc.DevicesStub(self._channels.to(node))
        request = pb.OrderScrubRequest(
            order=order, devices=[hex_id(device) for device in devices], full_speed=full_speed, cancel=cancel
        )
        await call(stub.OrderScrub, request, seconds=ORDER_SECONDS, mutation=True)


def _progress(told: pb.Device, order: str) -> ScrubProgress:
    scrub = told.scrub
    finished = bool(order) and scrub.last_order == order
    return ScrubProgress(
        device=DeviceId(parse_hex_id(told.id)),
        node=NodeId(parse_hex_id(told.node)),
        answered=told.answered and told.state in SERVING,
        used_bytes=told.used_bytes,
        order=order if finished or scrub.order == order else "",
        done=finished,
        done_bytes=scrub.last_bytes if finished else scrub.done_bytes,
        total_bytes=scrub.last_bytes if finished else scrub.total_bytes,
        fragments=scrub.last_fragments if finished else scrub.fragments,
        found=scrub.last_found if finished else scrub.found,
    )
