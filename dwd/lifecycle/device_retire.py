"""Kind "device.retire": a device that holds nothing any more leaves the cluster for good; by force one that still does,
and what it holds is rebuilt from other fragments where there are enough.
"""

from __future__ import annotations

from collections.abc import Mapping

from dwd.base.errors import Conflict, SafetyRefused, Unavailable
from dwd.base.units import format_bytes
from dwd.jobs.kinds import JobPlan, RunningJob
from dwd.lifecycle.device_drain import remaining, row_now
from dwd.lifecycle.device_facts import decode_device, device_of, encode_device, is_forced, named
from dwd.lifecycle.gather import Survey
from dwd.meta.core.control.commands import SetDeviceState
from dwd.meta.core.control.rows import DeviceRow, DeviceState


class DeviceRetireKind:
    """Argument: device."""

    name = "device.retire"

    def __init__(self, survey: Survey) -> None:
        self._survey = survey

    async def plan(self, arguments: Mapping[str, str], *, force: bool) -> JobPlan:
        topology = self._survey.meta.view.topology()
        row = device_of(topology, arguments)
        name = named(topology, row)
        if row.state is DeviceState.RETIRED:
            raise Conflict("device.retired", f"{name} is retired")
        warnings: tuple[str, ...] = ()
        refusal = await self._refusal(row, name)
        if refusal is not None:
            if not force:
                raise refusal
            warnings = (f"lost with it: {refusal.message}; it is rebuilt from other fragments, where there are enough",)
        return JobPlan(
            steps=("retire it",),
            lines=(f"{name} leaves the cluster; its directory comes back only as a new device, once emptied",),
            warnings=warnings,
            details=encode_device(row, name, forced=refusal is not None),
        )

    async def _refusal(self, row: DeviceRow, name: str) -> SafetyRefused | None:
        """Why it should stay: nothing is lost with a device that is empty and gets nothing new, or is lost anyway."""
        if row.state is DeviceState.LOST:
            return None
        hint = f"`dwctl device drain {row.device:016x}` empties it; --force gives up what it holds"
        held = await remaining(self._survey, row.device)
        if held.blocks:
            said = f"{held.blocks:,} blocks have {format_bytes(held.bytes)} of fragments on {name}"
            return SafetyRefused("device.holds_data", said, hint=hint)
        layout = self._survey.layout()
        placed = layout is not None and any(found.device == row.device for found in layout.devices)
        if placed or not row.draining:
            said = f"{name} is in use: new blocks may come to lie on it"
            return SafetyRefused("device.in_use", said, hint=hint)
        return None

    async def run(self, job: RunningJob) -> None:
        """Judged once more: somebody may have taken it back since the plan."""
        device, name = decode_device(job.plan)
        row = await row_now(self._survey, device)
        if row is not None and row.state is not DeviceState.RETIRED and not is_forced(job.plan):
            refusal = await self._refusal(row, name)
            if refusal is not None:
                raise refusal
        retired = SetDeviceState(device=device, state=DeviceState.RETIRED, reason="retired by an operator")
        await job.control(retired)

    async def verify(self, job: RunningJob) -> None:
        device, name = decode_device(job.plan)
        row = self._survey.meta.view.topology().device(device)
        if row is not None and row.state is not DeviceState.RETIRED:
            raise Unavailable("device.not_retired", f"this node's copy of control does not show {name} retired yet")
        job.conclude(f"{name} left the cluster")

    async def cancelled(self, job: RunningJob) -> None:
        """Given up is given up."""
        del job
