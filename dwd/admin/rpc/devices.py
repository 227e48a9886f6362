"""The Devices service: every node tells of its own devices, control of those whose nodes do not answer."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from dwd.admin.context import PEER_SECONDS, AdminContext, DeviceReport
from dwd.base.errors import DwError, InvalidArgument
from dwd.base.ids import DeviceId, NodeId, hex_id, parse_hex_id
from dwd.blocks.core.breaker import BreakerState
from dwd.blocks.core.scrubbing import (
    DAY_SECONDS,
    PERIOD_DAYS_MAX,
    PERIOD_DAYS_MIN,
    PERIOD_SETTING,
    ScrubState,
    period_days,
)
from dwd.blocks.policies import tier_of
from dwd.meta.core.control.commands import SetSetting
from dwd.meta.core.control.queries import Topology
from dwd.meta.core.control.rows import DeviceRow, DeviceState
from dwd.pb.admin.v1 import devices_pb2 as pb
from dwd.pb.admin.v1 import devices_pb2_grpc
from dwd.rpc.calls import call

Context = grpc.aio.ServicerContext[Any, Any]


class DevicesServicer(devices_pb2_grpc.DevicesServicer):
    """One a node."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context

    def register(self, server: grpc.aio.Server) -> None:
        """Serve this from `server`, which has not started yet."""
        devices_pb2_grpc.add_DevicesServicer_to_server(self, server)

    async def ListDevices(self, request: pb.ListDevicesRequest, context: Context) -> pb.ListDevicesReply:
        if request.local:
            return await _here(self._context)
        return await _everywhere(self._context)

    async def SetScrubPeriod(self, request: pb.SetScrubPeriodRequest, context: Context) -> pb.SetScrubPeriodReply:
        if request.days and not PERIOD_DAYS_MIN <= request.days <= PERIOD_DAYS_MAX:
            raise InvalidArgument("scrub.bad_period", f"{PERIOD_DAYS_MIN:g} to {PERIOD_DAYS_MAX:g} days")
        value = f"{request.days:g}" if request.days else ""
        command = SetSetting(name=PERIOD_SETTING, value=value)
        await self._context.meta.control(command, deadline=self._context.deadline())
        tier = tier_of(self._context.meta.view.topology())
        return pb.SetScrubPeriodReply(days=period_days(value, tier))

    async def OrderScrub(self, request: pb.OrderScrubRequest, context: Context) -> pb.ListDevicesReply:
        scrub = self._context.scrub
        if request.cancel:
            await scrub.drop_order(request.order)
        else:
            devices = [DeviceId(parse_hex_id(text)) for text in request.devices]
            await scrub.order(request.order, devices, full_speed=request.full_speed)
        return await _here(self._context)


async def _here(context: AdminContext) -> pb.ListDevicesReply:
    topology, period = context.meta.view.topology(), context.scrub.period_days
    reply = pb.ListDevicesReply(scrub_period_days=period)
    states, now_ms = context.scrub.states(), context.clock.unix_ms()
    for report in await context.blocks.devices():
        row = topology.device(report.device)
        if row is not None:
            told = _told(topology, row, report)
            if report.device in states:
                told.scrub.CopyFrom(_scrub(*states[report.device], period, now_ms))
            reply.devices.append(told)
    me = topology.node(context.node)
    for row in topology.devices:
        standing = context.latencies.standing(row.device)
        if standing.breaker is not BreakerState.CLOSED or standing.sluggish:
            avoidance = pb.Avoidance(
                device=hex_id(row.device), breaker=standing.breaker.value, sluggish=standing.sluggish
            )
            avoidance.node_name = me.name if me is not None else hex_id(context.node)
            reply.avoided.append(avoidance)
    return reply


async def _everywhere(context: AdminContext) -> pb.ListDevicesReply:
    """In order of the nodes' names and the devices' paths."""
    topology = context.meta.view.topology()
    replies = await asyncio.gather(*(_ask(context, row.node) for row in topology.nodes))
    heard = {device.id: device for reply in replies if reply is not None for device in reply.devices}
    found = [heard.get(hex_id(row.device)) or _told(topology, row, None) for row in topology.devices]
    for device in found:
        for reply in replies:
            device.avoided.extend(one for one in (reply.avoided if reply else ()) if one.device == device.id)
    found.sort(key=lambda device: (device.node_name, device.path, device.id))
    return pb.ListDevicesReply(devices=found, scrub_period_days=context.scrub.period_days)


async def _ask(context: AdminContext, node: NodeId) -> pb.ListDevicesReply | None:
    if node == context.node:
        return await _here(context)
    try:
        stub = devices_pb2_grpc.DevicesStub(context.channels.to(node))
        return await call(stub.ListDevices, pb.ListDevicesRequest(local=True), seconds=PEER_SECONDS, mutation=False)
    except DwError:
        return None


def _told(topology: Topology, row: DeviceRow, report: DeviceReport | None) -> pb.Device:
    node = topology.node(row.node)
    told = pb.Device(
        id=hex_id(row.device),
        node=hex_id(row.node),
        node_name=node.name if node is not None else "",
        state=row.state.name.lower(),
        weight=row.weight,
        zone=row.zone or (node.domain.zone if node is not None else ""),
        rack=row.rack or (node.domain.rack if node is not None else ""),
        reason=row.reason,
        draining=row.draining,
        answered=report is not None,
    )
    final = row.state in {DeviceState.LOST, DeviceState.RETIRED}
    if report is None:
        if not final and row.state is not DeviceState.FAILED:
            told.state = "unreachable"
        return told
    told.path, told.used_bytes, told.free_bytes, told.total_bytes = report.path, report.used, report.free, report.total
    told.reserve_bytes, told.fragments, told.errors = report.reserve, report.fragments, report.errors
    if not final and (report.failed or report.read_only):
        told.state = "rebuilding" if report.rebuilding else "failed" if report.failed else "read_only"
        told.reason = report.failed or report.read_only
    return told


def _scrub(state: ScrubState, rate: float, days: float, now_ms: int) -> pb.Scrub:
    current, last = state.current, state.last
    told = pb.Scrub(number=current.number, running=current.running, began_unix_ms=current.began_ms)
    told.done_bytes, told.total_bytes = current.done_bytes, current.total_bytes
    told.fragments, told.found = current.fragments, current.found
    told.order, told.full_speed, told.bytes_per_second = current.order, current.full_speed, rate
    told.last_ended_unix_ms, told.last_bytes = last.ended_ms, last.done_bytes
    told.last_fragments, told.last_found, told.last_order = last.fragments, last.found, last.order
    if current.running and not current.order:
        told.ends_unix_ms = max(now_ms, current.began_ms + int(days * DAY_SECONDS * 1000))
    elif current.running and rate:
        left = max(0, current.total_bytes - current.done_bytes)
        told.ends_unix_ms = now_ms + int(1000 * left / rate)
    return told
