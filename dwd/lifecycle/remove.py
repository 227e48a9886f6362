"""Kind "node.remove": a node that is drained, or dead for good, leaves the cluster.

    give up its devices    drained: RETIRED; dead: LOST, so that what they held is rebuilt at once
    move its replicas      until no group has a voter there
    rebuild its data       until no row places anything there (of a drained node nothing does)
    remove it              its rows go; its certificate is refused from now on, its id never comes back
    forget its replicas    until no group has any member there

By force a node that lives and holds data is treated as dead, and blocks that nothing can rebuild are given up.
"""

from __future__ import annotations

from collections.abc import Mapping

from dwd.base.errors import Conflict, InvariantViolation, SafetyRefused
from dwd.base.ids import hex_id
from dwd.jobs.kinds import JobPlan, RunningJob
from dwd.lifecycle.arguments import Details, details_of, encode_details, judged, node_of, require_alone
from dwd.lifecycle.core.departure import Departure
from dwd.lifecycle.gather import Survey
from dwd.lifecycle.moving import Mover
from dwd.meta.core.control.commands import RemoveNode, SetDeviceState
from dwd.meta.core.control.rows import DeviceState, Liveness, NodeRow, NodeStanding

STEPS = (
    "give up its devices", "move its replicas", "rebuild its data", "remove it", "forget its replicas"
)  # fmt: skip


class RemoveKind:
    """Argument: node, by name or id."""

    name = "node.remove"

    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        self._mover = Mover(survey)

    async def plan(self, arguments: Mapping[str, str], *, force: bool) -> JobPlan:
        view = self._survey.meta.view
        node = node_of(view.topology(), arguments)
        require_alone(view.live_jobs(), node, kind=self.name, arguments=arguments)
        drained = node.standing is NodeStanding.DRAINED
        if not drained and node.liveness is Liveness.UP and not force:
            raise SafetyRefused(
                "node.not_drained",
                f"{node.name} is up and not drained",
                hint=f"`dwctl node drain {node.name}` first; --force gives up what it holds as if it were dead",
            )
        departure = await self._survey.departure(node, dead=not drained)
        if drained and departure.bytes and not force:
            raise SafetyRefused(
                "node.holds_data",
                f"{node.name} is drained, and blocks came to lie there again",
                hint=f"`dwctl node undrain {node.name}` and drain it again, or --force",
            )
        return JobPlan(
            steps=STEPS,
            lines=self._lines(node, departure, drained=drained),
            warnings=judged(departure, force=force or drained),
            estimates=departure.estimates if not drained else (),
            total=departure.bytes,
            unit="bytes",
            details=encode_details(
                Details(node=hex_id(node.node), name=node.name, dead=not drained, forced=force)
            ),
        )  # fmt: skip

    def _lines(self, node: NodeRow, departure: Departure, *, drained: bool) -> tuple[str, ...]:
        last = f"{node.name} does not come back: its certificate and id are refused, it may join as a new node"
        if drained:
            return (f"{node.name} is drained and is removed", last)
        return (*departure.lines, last)

    async def run(self, job: RunningJob) -> None:
        details, mover = details_of(job.plan), self._mover
        node, name = details.node_id, details.name
        match job.step:
            case 0:
                await self._give_up(job, details)
            case 1:
                await mover.move_votes(job, node, name=name)
            case 2:
                await mover.place_without(job, node, successor=None)
                left = await mover.move_data(job, node, name=name, total=job.plan.total, forced=details.forced)
                await job.report(cursor=str(left).encode(), flush=True)
            case 3:
                await give_up_devices(job, mover, details)
                await job.control(RemoveNode(node=node))
            case 4:
                await mover.move_votes(job, node, name=name, everything=True)
            case _:
                raise InvariantViolation(f"node.remove has no step {job.step}")

    async def _give_up(self, job: RunningJob, details: Details) -> None:
        """What is LOST or RETIRED stays so; a node that is already gone needs nothing."""
        row = await self._mover.row(details.node_id)
        if row is None:
            return
        if not details.dead and row.standing is not NodeStanding.DRAINED:
            raise Conflict("node.taken_back", f"{details.name} was taken back meanwhile")
        if row.standing is NodeStanding.ACTIVE:
            await self._mover.stand(job, details.node_id, NodeStanding.DRAINING)
        await give_up_devices(job, self._mover, details)

    async def verify(self, job: RunningJob) -> None:
        details = details_of(job.plan)
        if await self._mover.row(details.node_id) is not None:
            raise Conflict("node.still_there", f"{details.name} is still a member")
        job.conclude(f"{details.name} is removed: its certificate is refused, its id does not come back")

    async def cancelled(self, job: RunningJob) -> None:
        """Devices that were given up stay so. A node that keeps others takes votes and data again."""
        await take_back(job, self._mover, details_of(job.plan))


async def give_up_devices(job: RunningJob, mover: Mover, details: Details) -> None:
    """Of a dead node LOST, of an empty one RETIRED."""
    state = DeviceState.LOST if details.dead else DeviceState.RETIRED
    reason = "its node is gone for good" if details.dead else "its node was drained"
    for device in mover.living_devices(details.node_id):
        await job.control(SetDeviceState(device=device, state=state, reason=f"{reason}, job of {details.name}"))


async def take_back(job: RunningJob, mover: Mover, details: Details) -> None:
    """After a cancelled departure: the node is active again unless all it had is given up."""
    row = await mover.row(details.node_id)
    if row is not None and row.standing is NodeStanding.DRAINING and mover.living_devices(details.node_id):
        await mover.stand(job, details.node_id, NodeStanding.ACTIVE)
