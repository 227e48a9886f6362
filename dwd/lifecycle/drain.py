"""Kind "node.drain": a node is emptied, of votes and of data, and serves clients on. Kind "node.undrain": it is taken
back.

    stop giving it anything new   standing DRAINING: no vote, no place in new layouts
    move its replicas             until no group has a member there
    move its data                 until no row places anything there
    note that it is drained       standing DRAINED: it may be removed, or taken back
"""

from __future__ import annotations

from collections.abc import Mapping

from dwd.base.errors import Conflict, InvariantViolation, Unavailable
from dwd.base.ids import hex_id
from dwd.blocks.layouts import is_automatic
from dwd.jobs.kinds import JobPlan, RunningJob
from dwd.lifecycle.arguments import Details, details_of, encode_details, judged, node_of, require_alone
from dwd.lifecycle.gather import Survey
from dwd.lifecycle.moving import POLL_SECONDS, Mover
from dwd.meta.core.control.rows import NodeStanding

DRAINING, DRAINED = NodeStanding.DRAINING, NodeStanding.DRAINED


class DrainKind:
    """Argument: node, by name or id."""

    name = "node.drain"

    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        self._mover = Mover(survey)

    async def plan(self, arguments: Mapping[str, str], *, force: bool) -> JobPlan:
        view = self._survey.meta.view
        node = node_of(view.topology(), arguments)
        require_alone(view.live_jobs(), node, kind=self.name, arguments=arguments)
        if node.standing is DRAINED:
            raise Conflict("node.already_drained", f"{node.name} is drained", hint="`dwctl node remove` removes it")
        departure = await self._survey.departure(node, dead=False)
        return JobPlan(
            steps=(
                "stop giving it anything new", "move its replicas", "move its data", "note that it is drained"
            ),
            lines=departure.lines,
            warnings=judged(departure, force=force),
            estimates=departure.estimates,
            total=departure.bytes,
            unit="bytes",
            details=encode_details(Details(node=hex_id(node.node), name=node.name, forced=force)),
        )  # fmt: skip

    async def run(self, job: RunningJob) -> None:
        details, mover = details_of(job.plan), self._mover
        node, name = details.node_id, details.name
        if job.step == 0:
            await mover.leave(job, details)
            return
        if not await mover.is_standing(node, DRAINING, DRAINED):
            raise Conflict("node.taken_back", f"{name} was taken back or removed meanwhile")
        match job.step:
            case 1:
                await mover.move_votes(job, node, name=name)
            case 2:
                await mover.place_without(job, node, successor=None)
                _ = await mover.move_data(job, node, name=name, total=job.plan.total)
            case 3:
                await mover.stand(job, node, DRAINED)
            case _:
                raise InvariantViolation(f"node.drain has no step {job.step}")

    async def verify(self, job: RunningJob) -> None:
        details = details_of(job.plan)
        if not await self._mover.is_standing(details.node_id, DRAINED):
            raise Conflict("node.taken_back", f"{details.name} was taken back meanwhile")
        left = await self._survey.remaining(details.node_id)
        if left.blocks:
            raise Unavailable("node.not_empty", f"{left.blocks} blocks came to lie on {details.name} meanwhile")
        job.conclude(f"{details.name} holds nothing any more and may be removed: `dwctl node remove {details.name}`")

    async def cancelled(self, job: RunningJob) -> None:
        node = details_of(job.plan).node_id
        if await self._mover.is_standing(node, DRAINING, DRAINED):
            await self._mover.stand(job, node, NodeStanding.ACTIVE)


class UndrainKind:
    """Argument: node, by name or id."""

    name = "node.undrain"

    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        self._mover = Mover(survey)

    async def plan(self, arguments: Mapping[str, str], *, force: bool) -> JobPlan:
        del force
        view = self._survey.meta.view
        node = node_of(view.topology(), arguments)
        require_alone(view.live_jobs(), node, kind=self.name, arguments=arguments)
        if node.standing is NodeStanding.ACTIVE:
            raise Conflict("node.not_draining", f"{node.name} is not drained")
        return JobPlan(
            steps=("take it back", "give it places"),
            lines=(f"{node.name} takes votes and data again",),
            details=encode_details(Details(node=hex_id(node.node), name=node.name)),
        )

    async def run(self, job: RunningJob) -> None:
        details = details_of(job.plan)
        if job.step == 0:
            await self._mover.stand(job, details.node_id, NodeStanding.ACTIVE)
            return
        while not self._is_placed(details):
            if not await self._mover.is_standing(details.node_id, NodeStanding.ACTIVE):
                raise Conflict("node.drained_again", f"{details.name} was drained again or removed meanwhile")
            await job.report(blocker="a layout with its devices: `dwctl layout show`")
            await job.wait(POLL_SECONDS)

    def _is_placed(self, details: Details) -> bool:
        """Or it is for operators to place it, or it has no device that takes data."""
        if not is_automatic(self._survey.meta.view.topology()):
            return True
        layout = self._survey.layout()
        placed = {device.device for device in layout.devices} if layout is not None else set()
        views = [view for view in self._survey.topology.devices().values() if view.node == details.node_id]
        return all(view.device in placed for view in views if view.placed)

    async def verify(self, job: RunningJob) -> None:
        details = details_of(job.plan)
        if not await self._mover.is_standing(details.node_id, NodeStanding.ACTIVE):
            raise Conflict("node.drained_again", f"{details.name} was drained again meanwhile")
        job.conclude(f"{details.name} is active; data comes to it as the layout says")

    async def cancelled(self, job: RunningJob) -> None:
        """Taken back is taken back: nothing half done is left."""
        del job
