"""Kind "device.drain": a device is emptied, and read until it is. Cancelling takes it back. Kind "device.undrain" takes
a drained one back.

    stop giving it anything new   draining: it stands in no new layout
    move its data                 until no row places anything there
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from dwd.base.errors import Conflict, SafetyRefused, Unavailable
from dwd.base.ids import DeviceId, LayoutEpoch
from dwd.base.units import format_bytes
from dwd.blocks.core.layout import encode_layout
from dwd.blocks.core.placement import plan_layout
from dwd.blocks.layouts import is_automatic
from dwd.blocks.topology import DeviceHealth, DeviceView, layout_devices
from dwd.blocks.whereabouts import Remaining, remaining_on
from dwd.jobs.kinds import JobPlan, RunningJob
from dwd.lifecycle.device_facts import decode_device, device_of, encode_device, named
from dwd.lifecycle.gather import ASK_SECONDS, Survey
from dwd.lifecycle.moving import POLL_SECONDS, POLL_SHARE, READ_SECONDS, STALL_SECONDS
from dwd.meta.core.control.commands import ApplyLayout, SetDeviceDraining
from dwd.meta.core.control.nodes import FINAL_STATES
from dwd.meta.core.control.queries import GetTopology
from dwd.meta.core.control.rows import DeviceRow


class DeviceDrainKind:
    """Argument: device."""

    name = "device.drain"

    def __init__(self, survey: Survey) -> None:
        self._survey = survey

    async def plan(self, arguments: Mapping[str, str], *, force: bool) -> JobPlan:
        topology = self._survey.meta.view.topology()
        row = device_of(topology, arguments)
        if row.state in FINAL_STATES:
            raise Conflict("device.gone", f"{named(topology, row)} is {row.state.name.lower()}: nothing is on it")
        held = await remaining(self._survey, row.device)
        takers = [view for view in self._survey.topology.devices().values() if _takes(view, row.device)]
        if not takers:
            raise SafetyRefused("device.no_other", "no other device takes data", hint="add a device or a node first")
        warnings = await self._room(takers, held, force=force)
        name = named(topology, row)
        return JobPlan(
            steps=("stop giving it anything new", "move its data"),
            lines=(f"{name} takes nothing new and is read until it is empty; its data goes to {len(takers)} others",),
            warnings=warnings,
            estimates=(f"{held.blocks:,} blocks have {format_bytes(held.bytes)} of fragments there",),
            total=held.bytes,
            unit="bytes",
            details=encode_device(row, name),
        )

    async def _room(self, takers: list[DeviceView], held: Remaining, *, force: bool) -> tuple[str, ...]:
        """Raises SafetyRefused where the others have no room for it."""
        spaces = await self._survey.fleet.spaces()
        free = sum(spaces[view.device].free for view in takers if view.device in spaces)
        if free >= held.bytes:
            return ()
        said = f"the other devices have {format_bytes(free)} free, it holds {format_bytes(held.bytes)}"
        if not force:
            raise SafetyRefused("device.no_room", said, hint="add capacity, or --force to move what fits")
        return (said,)

    async def run(self, job: RunningJob) -> None:
        device, name = decode_device(job.plan)
        if job.step == 0:
            await job.control(SetDeviceDraining(device=device, draining=True))
            return
        await self._move(job, device, name)

    async def _require_draining(self, device: DeviceId, name: str) -> None:
        row = await row_now(self._survey, device)
        if row is None or not row.draining:
            raise Conflict("device.taken_back", f"{name} was taken back meanwhile")

    async def _place_without(self, job: RunningJob, device: DeviceId) -> None:
        """By the layout worker; by the job where operators make layouts. Asked at each look: operators may apply one
        that still names the device, or begin to make layouts.
        """
        survey = self._survey
        present = survey.layout()
        if present is None or is_automatic(survey.meta.view.topology()):
            return
        if all(placed.device != device for placed in present.devices):
            return
        members = [view for view in survey.topology.devices().values() if view.device != device]
        wanted = sorted(layout_devices(members), key=lambda found: found.device)
        epoch = LayoutEpoch(present.epoch + 1)
        layout = await asyncio.to_thread(plan_layout, wanted, epoch=epoch, previous=present)
        try:
            await job.control(ApplyLayout(epoch=epoch, layout=encode_layout(layout)))
        except Conflict as error:
            if error.code != "meta.layout_epoch":
                raise  # another layout came meanwhile: the next look tells whether it names the device

    async def _move(self, job: RunningJob, device: DeviceId, name: str) -> None:
        clock, total = self._survey.clock, job.plan.total
        least, moved_at = None, clock.monotonic()
        while True:
            before = clock.monotonic()
            await self._require_draining(device, name)
            await self._place_without(job, device)
            left = await remaining(self._survey, device)
            now = clock.monotonic()
            total = max(total, left.bytes)
            if least is None or left.bytes < least:
                least, moved_at = left.bytes, now
            placed = self._is_placed(device)
            if not left.blocks and not placed:
                await job.report(done=total, total=total, flush=True)
                return
            blocker = f"the layout still names {name}" if placed else ""
            if not placed and now - moved_at >= STALL_SECONDS:
                blocker = "the repair of blocks: `dwctl heal status`"
            await job.report(done=total - left.bytes, total=total, blocker=blocker)
            await job.wait(max(POLL_SECONDS, POLL_SHARE * (now - before)))

    def _is_placed(self, device: DeviceId) -> bool:
        layout = self._survey.layout()
        return layout is not None and any(placed.device == device for placed in layout.devices)

    async def verify(self, job: RunningJob) -> None:
        device, name = decode_device(job.plan)
        await self._require_draining(device, name)
        left = await remaining(self._survey, device)
        if left.blocks:
            raise Unavailable("device.not_empty", f"{left.blocks} blocks came to lie on {name} meanwhile")
        job.conclude(f"{name} holds nothing any more and may be retired: `dwctl device retire {device:016x}`")

    async def cancelled(self, job: RunningJob) -> None:
        device, _ = decode_device(job.plan)
        row = await row_now(self._survey, device)
        if row is not None and row.draining and row.state not in FINAL_STATES:
            await job.control(SetDeviceDraining(device=device, draining=False))


class DeviceUndrainKind:
    """Argument: device."""

    name = "device.undrain"

    def __init__(self, survey: Survey) -> None:
        self._survey = survey

    async def plan(self, arguments: Mapping[str, str], *, force: bool) -> JobPlan:
        del force
        topology = self._survey.meta.view.topology()
        row = device_of(topology, arguments)
        name = named(topology, row)
        if not row.draining:
            raise Conflict("device.not_draining", f"{name} is not drained")
        if row.state in FINAL_STATES:
            raise Conflict("device.gone", f"{name} is {row.state.name.lower()}")
        return JobPlan(
            steps=("take it back",), lines=(f"{name} takes data again",), details=encode_device(row, name)
        )  # fmt: skip

    async def run(self, job: RunningJob) -> None:
        await job.control(SetDeviceDraining(device=decode_device(job.plan)[0], draining=False))

    async def verify(self, job: RunningJob) -> None:
        job.conclude(f"{decode_device(job.plan)[1]} takes data again, as the next layout says")

    async def cancelled(self, job: RunningJob) -> None:
        """Taken back is taken back."""
        del job


async def remaining(survey: Survey, device: DeviceId) -> Remaining:
    """What rows place on the device. Raises Unavailable."""
    deadline = survey.clock.monotonic() + ASK_SECONDS
    return await remaining_on(survey.meta, survey.topology, (device,), deadline=deadline)


async def row_now(survey: Survey, device: DeviceId) -> DeviceRow | None:
    """As control says now."""
    deadline = survey.clock.monotonic() + READ_SECONDS
    return (await survey.meta.read(GetTopology(), deadline=deadline)).device(device)


def _takes(view: DeviceView, device: DeviceId) -> bool:
    return view.device != device and view.placed and view.health is DeviceHealth.UP
