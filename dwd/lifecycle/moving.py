"""The waiting parts of the jobs of nodes: others move votes and data, the job says how far they are and what is in
their way.

Who moves what: the leader of each group its members (`meta.membership`), the leader of control the layout
(`blocks.layout`; the job itself where layouts are left to operators), the leaders of shards the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from dwd.base.errors import Conflict, SafetyRefused, Unavailable
from dwd.base.ids import CONTROL_GROUP, DeviceId, NodeId
from dwd.blocks.core.layout import Layout, encode_layout
from dwd.blocks.layouts import is_automatic
from dwd.blocks.topology import DeviceHealth
from dwd.jobs.kinds import RunningJob
from dwd.lifecycle.arguments import Details, judged
from dwd.lifecycle.core.departure import layout_without
from dwd.lifecycle.core.facts import GroupFacts
from dwd.lifecycle.gather import Survey
from dwd.meta.core.control.commands import ApplyLayout, SetNodeStanding
from dwd.meta.core.control.queries import GetTopology
from dwd.meta.core.control.rows import Liveness, NodeRow, NodeStanding
from dwd.raft.core.types import MemberRole

POLL_SECONDS = 1.0
POLL_SHARE = 5.0
"""A look that took long is repeated after this many times as long."""
STALL_SECONDS = 10.0
"""Nothing moved for so long: say what is in the way."""
ABANDON_SECONDS = 120.0
"""By force only: what could not be rebuilt for so long is given up."""
READ_SECONDS = 10.0
GROUPS_NAMED_MAX = 4


class Mover:
    """Everything may be done again, by another node."""

    def __init__(self, survey: Survey) -> None:
        self._survey = survey
        self._clock = survey.clock

    async def row(self, node: NodeId) -> NodeRow | None:
        """As control says now: this node's own copy may be behind what an earlier runner did."""
        deadline = self._clock.monotonic() + READ_SECONDS
        return (await self._survey.meta.read(GetTopology(), deadline=deadline)).node(node)

    async def is_standing(self, node: NodeId, *standings: NodeStanding) -> bool:
        row = await self.row(node)
        return row is not None and row.standing in standings

    async def stand(self, job: RunningJob, node: NodeId, standing: NodeStanding) -> None:
        await job.control(SetNodeStanding(node=node, standing=standing))

    async def leave(self, job: RunningJob, details: Details) -> None:
        """Mark the node first, then judge once more, by a copy of control that has the mark: of two nodes that begin
        to leave at once, the later one sees both. Raises SafetyRefused, and then it is active again.
        """
        node = details.node_id
        row = await self.row(node)
        if row is None:
            raise Conflict("node.gone", f"{details.name} was removed meanwhile")
        if row.standing is NodeStanding.ACTIVE:
            await self.stand(job, node, NodeStanding.DRAINING)
        while self._looks_active(node):
            await job.report(blocker="this node's copy of control is behind")
            await job.wait(POLL_SECONDS)
        successor = None if details.successor_id is None else await self.row(details.successor_id)
        departure = await self._survey.departure(row, dead=details.dead, successor=successor)
        try:
            _ = judged(departure, force=details.forced)
        except SafetyRefused:
            await self.stand(job, node, NodeStanding.ACTIVE)
            raise

    def _looks_active(self, node: NodeId) -> bool:
        row = self._survey.meta.view.topology().node(node)
        return row is None or row.standing is NodeStanding.ACTIVE

    async def move_votes(self, job: RunningJob, node: NodeId, *, name: str, everything: bool = False) -> None:
        """Until no group has a member there; of control the copy that every node has may stay, unless `everything` is
        to go.
        """
        while True:
            groups = await self._survey.fleet.groups()
            left = [group for group in groups if _stays(group, node, everything=everything)]
            if not left:
                return
            await job.report(blocker=self._votes_blocker(left, node, name))
            await job.wait(POLL_SECONDS)

    def _votes_blocker(self, left: Sequence[GroupFacts], node: NodeId, name: str) -> str:
        leaderless = [group.name for group in left if not group.leader]
        if leaderless:
            return f"without a leader: {_named(leaderless)}"
        told = f"{name} is still a member of {_named([group.name for group in left])}"
        down = [row.name for row in self._survey.meta.view.topology().nodes if _is_away(row, node)]
        return f"{told}; down: {', '.join(down[:GROUPS_NAMED_MAX])}" if down else told

    async def place_without(self, job: RunningJob, node: NodeId, *, successor: NodeId | None) -> None:
        """A layout without the node's devices: by the worker, by the job where operators make layouts, and where a
        successor is to take the places.
        """
        topology = self._survey.meta.view.topology()
        present = self._survey.layout()
        if present is None or all(device.node != node for device in present.devices):
            return
        if successor is None and is_automatic(topology):
            return
        facts = await self._survey.facts(node)
        row = topology.node(successor) if successor is not None else None
        wanted = await self._survey.aside(partial(layout_without, facts, node, row))
        if wanted is None:
            raise Unavailable("node.no_device", "no other device takes data", hint="add a node or a device")
        await self._apply(job, wanted)

    async def _apply(self, job: RunningJob, wanted: Layout) -> None:
        try:
            await job.control(ApplyLayout(epoch=wanted.epoch, layout=encode_layout(wanted)))
        except Conflict as error:
            if error.code != "meta.layout_epoch":
                raise
            # It may name the node: this step is tried again, and looks.
            raise Unavailable("node.layout_changed", "another layout was applied meanwhile") from error

    async def move_data(self, job: RunningJob, node: NodeId, *, name: str, total: int, forced: bool = False) -> int:
        """Until no row places anything on the node's devices. With `forced` only until nothing moves any more; then
        the blocks that are left.
        """
        least, moved_at = None, self._clock.monotonic()
        while True:
            before = self._clock.monotonic()
            left = await self._survey.remaining(node)
            now = self._clock.monotonic()
            total = max(total, left.bytes)
            if least is None or left.bytes < least:
                least, moved_at = left.bytes, now
            if not left.blocks and not self._placed(node):
                await job.report(done=total, total=total, flush=True)
                return 0
            if forced and now - moved_at >= ABANDON_SECONDS:
                return left.blocks
            stalled = now - moved_at >= STALL_SECONDS
            blocker = await self._data_blocker(node, name) if stalled or not left.blocks else ""
            await job.report(done=total - left.bytes, total=total, blocker=blocker)
            await job.wait(max(POLL_SECONDS, POLL_SHARE * (now - before)))

    def _placed(self, node: NodeId) -> bool:
        """Whether the newest layout still names devices of the node: then new blocks would still go there."""
        layout = self._survey.layout()
        return layout is not None and any(device.node == node for device in layout.devices)

    async def _data_blocker(self, node: NodeId, name: str) -> str:
        topology = self._survey.meta.view.topology()
        if self._placed(node):
            return f"the layout still names devices of {name}"
        row = topology.node(node)
        if row is not None and row.liveness is Liveness.DOWN and not self._given_up(node):
            return f"node {name} is down"
        away = [row.name for row in topology.nodes if _is_away(row, node)]
        if away:
            return f"node {away[0]} is down" if len(away) == 1 else f"nodes are down: {_named(away)}"
        spaces = await self._survey.fleet.spaces()
        takers = [view.device for view in self._survey.topology.devices().values() if view.placed]
        if takers and all(device in spaces and spaces[device].free == 0 for device in takers):
            return "no device has room"
        return "the repair of blocks: `dwctl heal status`"

    def _given_up(self, node: NodeId) -> bool:
        views = self._survey.topology.devices().values()
        return all(view.health is DeviceHealth.LOST for view in views if view.node == node)

    def living_devices(self, node: NodeId) -> tuple[DeviceId, ...]:
        """Not given up yet."""
        views = self._survey.topology.devices()
        return tuple(
            device
            for device in self._survey.devices(node)
            if device in views and views[device].health is not DeviceHealth.LOST
        )


def _stays(group: GroupFacts, node: NodeId, *, everything: bool) -> bool:
    """Whether the node is still a member, or nobody can tell. Also while a change of members is under way."""
    if not group.leader:
        return True
    member = group.configuration.on_node(node)
    if member is None:
        return False
    return everything or group.group != CONTROL_GROUP or member.role is not MemberRole.LEARNER


def _is_away(row: NodeRow, node: NodeId) -> bool:
    return row.node != node and row.liveness is Liveness.DOWN


def _named(names: Sequence[str]) -> str:
    more = len(names) - GROUPS_NAMED_MAX
    return ", ".join(names[:GROUPS_NAMED_MAX]) + (f" and {more} more" if more > 0 else "")
