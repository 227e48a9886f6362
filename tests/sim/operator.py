"""An operator who changes the members of groups at random, one at a time or several at once, and brings back what the
changes or the faults took away.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dwd.base.errors import NotFound
from dwd.base.ids import CONTROL_GROUP, ID_BITS, GroupId, NodeId, ReplicaId
from dwd.raft.core.types import ChangeKind, Configuration, ConfigurationChange, JointChange, Member, MemberRole
from tests.twins.meta_group import SHARD

if TYPE_CHECKING:
    from tests.sim.network import Endpoint
    from tests.sim.process import SimNode
    from tests.sim.world import World
    from tests.twins.virtual_time import SeededRng

CHANGE_SECONDS = 5.0
VOTERS_MIN = 3


async def change(world: World, rng: SeededRng) -> None:
    """One change of one group, through its leader."""
    group = (CONTROL_GROUP, SHARD)[rng.below(2)]
    leader = world.leader(group)
    if leader is None or leader.host is None:
        return
    host = leader.host
    present = host.status(group).configuration
    steps = await _steps(world, rng, leader, group, present)
    if not steps:
        return
    wish = steps[0] if len(steps) == 1 else JointChange(changes=tuple(steps))
    world.counts["changes joint" if len(steps) > 1 else f"changes {steps[0].kind.name}"] += 1
    deadline = world.loop.time() + CHANGE_SECONDS
    await leader.run(lambda _: host.change(group, wish, deadline=deadline))


async def mend(world: World, rng: SeededRng) -> None:
    """Replace one lost replica, if there is any: the last duty of an operator."""
    for group in (CONTROL_GROUP, SHARD):
        leader = world.leader(group)
        if leader is None or leader.host is None:
            continue
        host = leader.host
        lost = [node for node in host.missing(group) if node != leader.id]
        if not lost:
            continue
        member = await _newcomer(world, rng, leader, group, lost[0])
        wish = ConfigurationChange(kind=ChangeKind.REPLACE_LOST, member=member)
        deadline = world.loop.time() + CHANGE_SECONDS
        await leader.run(lambda _, h=host, g=group, w=wish, d=deadline: h.change(g, w, deadline=d))  # type: ignore[misc]


async def _steps(
    world: World, rng: SeededRng, leader: SimNode, group: GroupId, present: Configuration
) -> list[ConfigurationChange]:
    host = leader.host
    if host is None:
        return []
    members = {m.node: m for m in present.members}
    lost = [node for node in host.missing(group) if node != leader.id]
    if lost:
        member = await _newcomer(world, rng, leader, group, lost[0])
        return [ConfigurationChange(kind=ChangeKind.REPLACE_LOST, member=member)]
    outside = [node.id for node in world.nodes if node.id not in members and node.ready]
    learners = [m for m in present.members if m.role is MemberRole.LEARNER]
    if outside and rng.below(2):
        member = await _newcomer(world, rng, leader, group, outside[0])
        return [ConfigurationChange(kind=ChangeKind.ADD_LEARNER, member=member)]
    steps = [ConfigurationChange(kind=ChangeKind.PROMOTE, member=m) for m in learners[: 1 + rng.below(2)]]
    voters = [m for m in present.voters() if m.node != leader.id or rng.below(4) == 0]
    if len(present.voters()) + len(steps) > VOTERS_MIN and voters and rng.below(2):
        steps.append(ConfigurationChange(kind=ChangeKind.REMOVE, member=voters[rng.below(len(voters))]))
    return steps


async def _newcomer(world: World, rng: SeededRng, leader: SimNode, group: GroupId, node: NodeId) -> Member:
    """A replica that starts from nothing."""
    replica = ReplicaId(rng.bits(ID_BITS) | 1)
    endpoint = leader.endpoint
    if endpoint is None:
        raise NotFound("sim.gone", "the leader died")

    async def prepare(there: Endpoint) -> None:
        await there.listening().prepare_replica(group, replica, witness=False)

    await world.network.call(endpoint, node, prepare, seconds=CHANGE_SECONDS)
    return Member(node=node, replica=replica, role=MemberRole.LEARNER)
