"""The Healing service: every leader tells of its shards, sums are made where it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

import grpc

from dwd.admin.context import PEER_SECONDS, AdminContext
from dwd.base.errors import DwError, InvalidArgument, NotFound
from dwd.base.ids import BlockId, DeviceId, hex_id
from dwd.blocks.core.heal_settings import (
    EXPOSURE_MINUTES_MAX,
    EXPOSURE_SETTING,
    PACE_BYTES_MAX,
    PACE_BYTES_MIN,
    PACE_SETTING,
    parse_exposure_minutes,
    parse_pace,
)
from dwd.blocks.core.needs import Cause, Urgency
from dwd.blocks.heal_queue import Parked
from dwd.blocks.ledger import LIMIT_MAX, Entry, RepairState, Wanted
from dwd.meta.core.control.commands import SetSetting
from dwd.meta.core.control.rows import NodeRow
from dwd.pb.admin.v1 import heal_pb2 as pb
from dwd.pb.admin.v1 import heal_pb2_grpc
from dwd.rpc.calls import call

Context = grpc.aio.ServicerContext[Any, Any]
Reply = TypeVar("Reply")
PARKED_SHOWN_MAX = 20
"""Of each node, and of all."""
AUTO = "auto"


class HealingServicer(heal_pb2_grpc.HealingServicer):
    """One a node."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context

    def register(self, server: grpc.aio.Server) -> None:
        """Serve this from `server`, which has not started yet."""
        heal_pb2_grpc.add_HealingServicer_to_server(self, server)

    async def HealStatus(self, request: pb.HealStatusRequest, context: Context) -> pb.HealStatusReply:
        if request.local:
            return status_here(self._context)
        asked = pb.HealStatusRequest(local=True)
        return whole_status(
            self._context,
            await everywhere(
                self._context, lambda: status_here(self._context), lambda stub: call_quickly(stub.HealStatus, asked)
            ),
        )

    async def ListRepairs(self, request: pb.ListRepairsRequest, context: Context) -> pb.ListRepairsReply:
        wanted = _wanted(request)
        mine = await repairs_here(self._context, wanted)
        if request.local:
            return mine
        asked = pb.ListRepairsRequest()
        asked.CopyFrom(request)
        asked.local = True
        answers = await everywhere(self._context, lambda: mine, lambda stub: call_quickly(stub.ListRepairs, asked))
        found = [repair for _, answer in answers if answer is not None for repair in answer.repairs]
        found.sort(key=lambda repair: -repair.at_ms)
        return pb.ListRepairsReply(repairs=found[: wanted.limit], unreachable=_silent(answers))

    async def RetryRepairs(self, request: pb.RetryRepairsRequest, context: Context) -> pb.RetryRepairsReply:
        block = _block(request.block) if request.block else None
        if request.local:
            return pb.RetryRepairsReply(retried=self._context.healing.queue.unpark(block))
        asked = pb.RetryRepairsRequest(local=True, block=request.block)
        answers = await everywhere(
            self._context,
            lambda: pb.RetryRepairsReply(retried=self._context.healing.queue.unpark(block)),
            lambda stub: call_quickly(stub.RetryRepairs, asked),
        )
        reply = pb.RetryRepairsReply(
            retried=sum(answer.retried for _, answer in answers if answer is not None), unreachable=_silent(answers)
        )
        if block is not None and not reply.retried:
            raise NotFound("heal.not_parked", f"block {request.block} is not parked on any node that answers")
        return reply

    async def SetHealing(self, request: pb.SetHealingRequest, context: Context) -> pb.SetHealingReply:
        changes = []
        if request.HasField("pace"):
            if request.pace != AUTO and parse_pace(request.pace) is None:
                raise InvalidArgument(
                    "heal.bad_pace", f"a pace is {AUTO!r} or {PACE_BYTES_MIN} to {PACE_BYTES_MAX} bytes a second"
                )
            changes.append((PACE_SETTING, "" if request.pace == AUTO else request.pace))
        if request.HasField("exposure_minutes"):
            if not 0 < request.exposure_minutes <= EXPOSURE_MINUTES_MAX:
                raise InvalidArgument("heal.bad_objective", f"1 to {EXPOSURE_MINUTES_MAX} minutes")
            changes.append((EXPOSURE_SETTING, str(request.exposure_minutes)))
        for name, value in changes:
            command = SetSetting(name=name, value=value)
            await self._context.meta.control(command, deadline=self._context.deadline())
        settings = {**dict.fromkeys((PACE_SETTING, EXPOSURE_SETTING)), **dict(changes)}
        topology = self._context.meta.view.topology()
        pace, minutes = (topology.setting(name) if value is None else value for name, value in settings.items())
        return pb.SetHealingReply(pace=pace or AUTO, exposure_minutes=parse_exposure_minutes(minutes))


def status_here(context: AdminContext) -> pb.HealStatusReply:
    """Of the shards this node leads, from memory."""
    parts, now = context.healing, context.clock.monotonic()
    counting, healed = parts.walker.counting(), parts.worker.healed
    rate_bytes, rate_blocks = healed.rate(now)
    walks, rows = parts.walker.walking()
    led = sum(context.meta.leads(group) for group in context.meta.shards())
    reply = pb.HealStatusReply(
        blocks=counting.blocks,
        degraded=counting.degraded,
        at_risk=counting.at_risk,
        waiting=counting.waiting,
        exposed=len(counting.exposed),
        oldest_exposed_ms=min(counting.exposed.values(), default=0),
        rate_bytes=rate_bytes,
        rate_blocks=rate_blocks,
        parked_count=len(parts.queue.parked),
        healed_blocks=healed.blocks,
        written_bytes=healed.written_bytes,
        read_bytes=healed.read_bytes,
        failures=healed.failures,
    )
    reply.nodes.add(
        id=hex_id(context.node), state="up", shards_led=led, queued=len(parts.queue), parked=len(parts.queue.parked),
        walks=walks, rows_walked=rows, rate_bytes=rate_bytes, rate_blocks=rate_blocks,
    )  # fmt: skip
    for urgency, amount in sorted(counting.todo.items()):
        reply.classes.add(name=urgency.name.lower(), blocks=amount.blocks, bytes=amount.bytes)
    local = {view.device for view in context.topology.devices().values() if view.node == context.node}
    for device in sorted({*counting.outgoing, *counting.incoming, *local}):
        out, into = counting.outgoing.get(device), counting.incoming.get(device)
        reply.devices.add(
            device=hex_id(device), node=_node_of(context, device),
            out_fragments=out.blocks if out else 0, out_bytes=out.bytes if out else 0,
            in_fragments=into.blocks if into else 0, in_bytes=into.bytes if into else 0,
            pace_bytes=parts.pacing.of(device).rate if device in local else 0.0,
        )  # fmt: skip
    longest = sorted(parts.queue.parked.values(), key=lambda parked: parked.since_ms)
    reply.parked.extend(_parked(context, parked, now) for parked in longest[:PARKED_SHOWN_MAX])
    return reply


def whole_status(
    context: AdminContext, answers: Iterable[tuple[NodeRow, pb.HealStatusReply | None]]
) -> pb.HealStatusReply:
    """The sum over the nodes that answered."""
    topology = context.meta.view.topology()
    total = pb.HealStatusReply(
        answered_by=hex_id(context.node),
        objective_minutes=parse_exposure_minutes(topology.setting(EXPOSURE_SETTING)),
        pace=topology.setting(PACE_SETTING) or AUTO,
    )
    classes = {urgency.name.lower(): pb.HealClass(name=urgency.name.lower()) for urgency in Urgency}
    devices: dict[str, pb.HealDevice] = {}
    for row, answer in answers:
        if answer is None:
            total.nodes.add(id=hex_id(row.node), name=row.name, state="unreachable")
            continue
        answer.nodes[0].name = row.name
        total.nodes.extend(answer.nodes)
        for name in _SUMMED:
            setattr(total, name, getattr(total, name) + getattr(answer, name))
        since = [at for at in (total.oldest_exposed_ms, answer.oldest_exposed_ms) if at]
        total.oldest_exposed_ms = min(since, default=0)
        for found in answer.classes:
            classes[found.name].blocks += found.blocks
            classes[found.name].bytes += found.bytes
        for device in answer.devices:
            known = devices.setdefault(device.device, pb.HealDevice(device=device.device, node=device.node))
            for name in _DEVICE_SUMMED:
                setattr(known, name, getattr(known, name) + getattr(device, name))
        total.parked.extend(answer.parked)
    del total.parked[PARKED_SHOWN_MAX:]
    total.classes.extend(classes.values())
    total.devices.extend(devices[name] for name in sorted(devices))
    total.todo_bytes = sum(found.bytes for found in total.classes)
    total.eta_seconds = _eta(total)
    _alarm(context, total)
    return total


_SUMMED = (
    "blocks", "degraded", "at_risk", "waiting", "exposed", "rate_bytes", "rate_blocks", "parked_count",
    "healed_blocks", "written_bytes", "read_bytes", "failures",
)  # fmt: skip
_DEVICE_SUMMED = ("out_fragments", "out_bytes", "in_fragments", "in_bytes", "pace_bytes")


def _eta(total: pb.HealStatusReply) -> float:
    if not total.todo_bytes:
        return 0.0
    return total.todo_bytes / total.rate_bytes if total.rate_bytes else -1.0


def _alarm(context: AdminContext, total: pb.HealStatusReply) -> None:
    age_ms = context.clock.unix_ms() - total.oldest_exposed_ms if total.oldest_exposed_ms else 0
    total.violated = age_ms > total.objective_minutes * 60_000
    if total.violated:
        total.alarms.append(
            f"{total.exposed} blocks are one loss from unreadable, the oldest for {age_ms // 60_000} min: "
            f"more than the objective of {total.objective_minutes} min"
        )
    for node in total.nodes:
        if node.state != "up":
            total.alarms.append(f"node {node.name or node.id} does not answer: shards that it leads are not counted")


async def repairs_here(context: AdminContext, wanted: Wanted) -> pb.ListRepairsReply:
    ledger = context.healing.ledger
    entries, now_ms = ledger.take(), context.clock.unix_ms()

    def work() -> list[Entry]:
        ledger.flush(entries, now_ms)
        return ledger.find(wanted)

    found = await asyncio.to_thread(work)
    return pb.ListRepairsReply(repairs=[_repair(context, entry) for entry in found])


async def everywhere(
    context: AdminContext,
    here: Callable[[], Reply],
    there: Callable[[heal_pb2_grpc.HealingAsyncStub], Awaitable[Reply]],
) -> list[tuple[NodeRow, Reply | None]]:
    """What every node answers; None of those that do not in time."""

    async def one(row: NodeRow) -> tuple[NodeRow, Reply | None]:
        if row.node == context.node:
            return row, here()
        try:
            return row, await there(heal_pb2_grpc.HealingStub(context.channels.to(row.node)))
        except DwError:
            return row, None

    return list(await asyncio.gather(*(one(row) for row in context.meta.view.topology().nodes)))


async def call_quickly(method: Any, request: Any) -> Any:
    return await call(method, request, seconds=PEER_SECONDS, mutation=False)


def _silent(answers: Iterable[tuple[NodeRow, object | None]]) -> list[str]:
    return [row.name or hex_id(row.node) for row, answer in answers if answer is None]


def _wanted(request: pb.ListRepairsRequest) -> Wanted:
    """Raises InvalidArgument."""
    states, causes = {state.value for state in RepairState}, {cause.value for cause in Cause}
    if request.state and request.state not in states:
        raise InvalidArgument("heal.bad_state", f"no state {request.state!r}: one of {', '.join(sorted(states))}")
    if request.cause and request.cause not in causes:
        raise InvalidArgument("heal.bad_cause", f"no cause {request.cause!r}: one of {', '.join(sorted(causes))}")
    limit = min(request.limit or 100, LIMIT_MAX)
    return Wanted(state=request.state, cause=request.cause, bucket=request.bucket, block=request.block, limit=limit)


def _block(text: str) -> BlockId:
    try:
        return BlockId(bytes.fromhex(text))
    except ValueError:
        raise InvalidArgument("heal.bad_block", f"a block is 32 hex digits, not {text[:80]!r}") from None


def _node_of(context: AdminContext, device: DeviceId) -> str:
    view = context.topology.devices().get(device)
    return hex_id(view.node) if view is not None else ""


def _parked(context: AdminContext, parked: Parked, now: float) -> pb.ParkedBlock:
    item = parked.item
    return pb.ParkedBlock(
        block=item.block.hex(), bucket=item.owned.bucket, key=item.owned.key, cause=item.cause.value,
        code=parked.code, reason=parked.reason, since_ms=parked.since_ms, again_seconds=max(0.0, parked.again_at - now),
        tries=parked.tries + 1, node=hex_id(context.node),
    )  # fmt: skip


def _repair(context: AdminContext, entry: Entry) -> pb.Repair:
    return pb.Repair(
        at_ms=entry.at_ms, node=hex_id(context.node), block=entry.block.hex(), group=entry.group, bucket=entry.bucket,
        key=entry.key, state=entry.state.value, cause=entry.cause, margin=entry.margin, reason=entry.reason,
        decoded=entry.decoded, read_bytes=entry.read_bytes, written_bytes=entry.written_bytes,
        waited_ms=entry.waited_ms, took_ms=entry.took_ms, tries=entry.tries,
        read=[pb.RepairFragment(index=i, device=hex_id(d)) for i, d in entry.read],
        written=[pb.RepairFragment(index=i, device=hex_id(d)) for i, d in entry.written],
    )  # fmt: skip
