"""Kind "scrub": everything on the chosen devices is read and verified now, as fast as clients allow, or at full speed.

Each node reads its own devices (dwd.blocks.scrub_worker); the job orders it, which is harmless when repeated, and adds
up how far they are. What is bad is handed to repair by the node that finds it. Cancelling leaves what is left to the
usual pace.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from dwd.base.errors import Conflict, DwError, InvalidArgument, NotFound, Unavailable
from dwd.base.ids import DeviceId, JobId, NodeId, hex_id, job_name, parse_hex_id
from dwd.base.units import format_bytes
from dwd.jobs.kinds import JobPlan, RunningJob
from dwd.lifecycle.device_facts import DEVICE, DeviceFleet, ScrubProgress, device_of, named
from dwd.meta.client import MetaClient
from dwd.meta.core.control.job_rows import JobState
from dwd.meta.core.control.nodes import FINAL_STATES
from dwd.meta.core.control.queries import Topology
from dwd.meta.core.control.rows import DeviceRow

NODE, SPEED = "node", "speed"
FULL, PACED = "full", "paced"
POLL_SECONDS = 1.0


class ScrubKind:
    """Arguments: device or node (neither: all devices), speed."""

    name = "scrub"

    def __init__(self, meta: MetaClient, fleet: DeviceFleet) -> None:
        self._meta = meta
        self._fleet = fleet

    async def plan(self, arguments: Mapping[str, str], *, force: bool) -> JobPlan:
        del force
        if set(arguments) - {DEVICE, NODE, SPEED} or arguments.get(SPEED, PACED) not in {FULL, PACED}:
            raise InvalidArgument("scrub.arguments", f"scrub takes {DEVICE} or {NODE}, and {SPEED}={FULL} or {PACED}")
        topology = self._meta.view.topology()
        chosen = _chosen(topology, arguments)
        told = await self._fleet.devices("")
        away = [row for row in chosen if row.device not in told or not told[row.device].answered]
        here = [row for row in chosen if row not in away]
        if not here:
            raise Unavailable("scrub.nothing", "none of the devices can be read now", hint="see `dwctl device list`")
        total = sum(told[row.device].used_bytes for row in here)
        speed = "at full speed" if arguments.get(SPEED) == FULL else "as fast as clients allow"
        devices = "device" if len(here) == 1 else "devices"
        return JobPlan(
            steps=("read and verify",),
            lines=(f"{format_bytes(total)} on {len(here)} {devices} are read and verified, {speed}",),
            warnings=tuple(f"{named(topology, row)} cannot be read now and is left out" for row in away),
            total=total,
            unit="bytes",
            details=json.dumps([[hex_id(row.node), hex_id(row.device)] for row in here]).encode(),
        )

    async def run(self, job: RunningJob) -> None:
        wanted, order = _wanted(job.plan), f"job-{job.id}"
        while True:
            first = self._first(job, wanted)
            if first is not None:
                await job.report(blocker=f"job {job_name(first)} reads the same devices first")
                await job.wait(POLL_SECONDS)
                continue
            told = await self._fleet.devices(order)
            topology = self._meta.view.topology()
            left = [device for device in wanted if not _is_over(topology, device, told.get(device))]
            silent = await self._order(job, order, told, {device: wanted[device] for device in left})
            seen = _seen(told, wanted, order)
            done, total = sum(p.done_bytes for p in seen), max(job.plan.total, sum(p.total_bytes for p in seen))
            if not left:
                job.conclude(_result(seen, len(wanted)))
                await job.report(done=total, total=total, flush=True)
                return
            away = [d for d in left if _away(told, d) or wanted[d] in silent]
            names = [named(topology, row) for d in away if (row := topology.device(d)) is not None]
            blocker = f"{names[0]} does not answer" if names else ""
            await job.report(done=min(done, total), total=total, blocker=blocker)
            await job.wait(POLL_SECONDS)

    def _first(self, job: RunningJob, wanted: Mapping[DeviceId, NodeId]) -> JobId | None:
        """An older scrub of some of the devices: a device keeps one order, so two at once would begin it anew for
        ever.
        """
        for row in self._meta.view.live_jobs():
            is_older = row.kind == self.name and row.job < job.id and row.state is not JobState.PAUSED
            if is_older and not wanted.keys().isdisjoint(_wanted(row.plan)):
                return row.job
        return None

    async def _order(
        self, job: RunningJob, order: str, told: Mapping[DeviceId, ScrubProgress], left: Mapping[DeviceId, NodeId]
    ) -> set[NodeId]:
        """Of devices that have not begun; the nodes that took no order."""
        full, silent = job.arguments.get(SPEED) == FULL, set[NodeId]()
        for node in set(left.values()):
            mine = [d for d in left if left[d] == node and not (d in told and told[d].order == order)]
            try:
                if mine:
                    await self._fleet.order_scrub(node, order, mine, full_speed=full)
            except DwError:
                silent.add(node)
        return silent

    async def verify(self, job: RunningJob) -> None:
        """The last look said that all was read; who took over after it says once more what was found."""
        wanted, order = _wanted(job.plan), f"job-{job.id}"
        told, topology = await self._fleet.devices(order), self._meta.view.topology()
        if all(_is_over(topology, device, told.get(device)) for device in wanted):
            job.conclude(_result(_seen(told, wanted, order), len(wanted)))

    async def cancelled(self, job: RunningJob) -> None:
        for node in set(_wanted(job.plan).values()):
            try:
                await self._fleet.order_scrub(node, f"job-{job.id}", (), full_speed=False, cancel=True)
            except DwError:
                continue  # it reads on to the end of its pass: nothing is wrong with that


def _chosen(topology: Topology, arguments: Mapping[str, str]) -> list[DeviceRow]:
    """Raises NotFound, Conflict, InvalidArgument."""
    if DEVICE in arguments and NODE in arguments:
        raise InvalidArgument("scrub.arguments", f"say {DEVICE} or {NODE}, not both")
    if DEVICE in arguments:
        row = device_of(topology, {DEVICE: arguments[DEVICE]})
        if row.state in FINAL_STATES:
            raise Conflict("device.gone", f"{named(topology, row)} is {row.state.name.lower()}")
        return [row]
    rows = [row for row in topology.devices if row.state not in FINAL_STATES]
    if NODE in arguments:
        nodes = {row.node for row in topology.nodes if arguments[NODE] in {row.name, hex_id(row.node)}}
        if not nodes:
            raise NotFound("node.not_found", f"no node {arguments[NODE]!r}", hint="`dwctl node list` shows them")
        rows = [row for row in rows if row.node in nodes]
    return rows


def _wanted(plan: JobPlan) -> dict[DeviceId, NodeId]:
    return {DeviceId(parse_hex_id(device)): NodeId(parse_hex_id(node)) for node, device in json.loads(plan.details)}


def _seen(told: Mapping[DeviceId, ScrubProgress], wanted: Mapping[DeviceId, NodeId], order: str) -> list[ScrubProgress]:
    return [told[device] for device in wanted if device in told and told[device].order == order]


def _is_over(topology: Topology, device: DeviceId, told: ScrubProgress | None) -> bool:
    """Read to its end, or given up meanwhile: then there is nothing to read."""
    row = topology.device(device)
    return row is None or row.state in FINAL_STATES or (told is not None and told.done)


def _away(told: Mapping[DeviceId, ScrubProgress], device: DeviceId) -> bool:
    return device not in told or not told[device].answered


def _result(seen: list[ScrubProgress], wanted: int) -> str:
    fragments, size, found = sum(p.fragments for p in seen), sum(p.done_bytes for p in seen), sum(p.found for p in seen)
    said = f"{fragments:,} fragments verified, {format_bytes(size)}; {found:,} bad"
    return said if len(seen) == wanted else f"{said}; {wanted - len(seen)} devices were given up meanwhile"
