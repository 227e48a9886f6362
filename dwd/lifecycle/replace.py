"""Kind "node.replace": a new node takes the place of an old one, which leaves.

stop giving it anything new   standing DRAINING; of a dead one the devices are LOST
give its places away          a layout in which the new node's devices stand where the old ones did, as far as they
                              stand nowhere yet: then nothing else moves
move its replicas             until no group has a voter there
move its data                 from the old node, or rebuilt when it is dead
remove it                     as "node.remove" does
forget its replicas
"""

from __future__ import annotations

from collections.abc import Mapping

from dwd.base.errors import Conflict, InvalidArgument, InvariantViolation, SafetyRefused
from dwd.base.ids import hex_id
from dwd.jobs.kinds import JobPlan, RunningJob
from dwd.lifecycle.arguments import SUCCESSOR, Details, details_of, encode_details, judged, node_of, require_alone
from dwd.lifecycle.gather import Survey
from dwd.lifecycle.moving import Mover
from dwd.lifecycle.remove import give_up_devices, take_back
from dwd.meta.core.control.commands import RemoveNode
from dwd.meta.core.control.rows import Liveness, NodeRow, NodeStanding

STEPS = (
    "stop giving it anything new",
    "give its places away",
    "move its replicas",
    "move its data",
    "remove it",
    "forget its replicas",
)


class ReplaceKind:
    """Arguments: node and successor, by name or id."""

    name = "node.replace"

    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        self._mover = Mover(survey)

    async def plan(self, arguments: Mapping[str, str], *, force: bool) -> JobPlan:
        view = self._survey.meta.view
        topology = view.topology()
        node, successor = node_of(topology, arguments), node_of(topology, arguments, SUCCESSOR)
        for row in (node, successor):
            require_alone(view.live_jobs(), row, kind=self.name, arguments=arguments)
        self._require_fit(node, successor)
        dead = node.liveness is Liveness.DOWN
        departure = await self._survey.departure(node, dead=dead, successor=successor)
        details = Details(
            node=hex_id(node.node), name=node.name, successor=hex_id(successor.node), dead=dead, forced=force
        )
        last = f"{node.name} is removed then: its certificate and id are refused, it may join as a new node"
        return JobPlan(
            steps=STEPS,
            lines=(*departure.lines, last),
            warnings=judged(departure, force=force),
            estimates=departure.estimates,
            total=departure.bytes,
            unit="bytes",
            details=encode_details(details),
        )

    def _require_fit(self, node: NodeRow, successor: NodeRow) -> None:
        if node.node == successor.node:
            raise InvalidArgument("node.replaces_itself", f"{node.name} cannot take its own place")
        if successor.standing is not NodeStanding.ACTIVE or successor.liveness is not Liveness.UP:
            raise SafetyRefused("node.successor_unfit", f"{successor.name} is not up and active")
        views = self._survey.topology.devices().values()
        if not any(view.node == successor.node and view.placed for view in views):
            raise SafetyRefused("node.successor_empty", f"{successor.name} has no device that takes data")

    async def run(self, job: RunningJob) -> None:
        details, mover = details_of(job.plan), self._mover
        node, name = details.node_id, details.name
        match job.step:
            case 0:
                await mover.leave(job, details)
                if details.dead:
                    await give_up_devices(job, mover, details)
            case 1:
                await mover.place_without(job, node, successor=details.successor_id)
            case 2:
                await mover.move_votes(job, node, name=name)
            case 3:
                _ = await mover.move_data(job, node, name=name, total=job.plan.total, forced=details.forced)
            case 4:
                await self._leave(job, details)
            case 5:
                await mover.move_votes(job, node, name=name, everything=True)
            case _:
                raise InvariantViolation(f"node.replace has no step {job.step}")

    async def _leave(self, job: RunningJob, details: Details) -> None:
        row = await self._mover.row(details.node_id)
        if row is not None and row.standing is NodeStanding.ACTIVE:
            raise Conflict("node.taken_back", f"{details.name} was taken back meanwhile")
        await give_up_devices(job, self._mover, details)
        await job.control(RemoveNode(node=details.node_id))

    async def verify(self, job: RunningJob) -> None:
        details = details_of(job.plan)
        if await self._mover.row(details.node_id) is not None:
            raise Conflict("node.still_there", f"{details.name} is still a member")
        job.conclude(f"{details.name} was replaced and is removed")

    async def cancelled(self, job: RunningJob) -> None:
        await take_back(job, self._mover, details_of(job.plan))
