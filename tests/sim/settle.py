"""After healing: convergence, liveness, and a last look at everything from every node."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from dwd.base.errors import DwError, NotFound
from dwd.base.ids import CONTROL_GROUP, GroupId, NodeId, hex_id
from dwd.raft.core.types import MemberRole
from tests.sim import operator
from tests.sim.clients import Client
from tests.twins.meta_group import SHARD, content_hash

if TYPE_CHECKING:
    from tests.sim.process import SimNode
    from tests.sim.world import World

SETTLE_SECONDS = 90.0
QUIET_SECONDS = 20.0
READ_SECONDS = 20.0
GROUPS = (CONTROL_GROUP, SHARD)


async def until_settled(world: World) -> None:
    """Clients go on meanwhile: they must be served again, every member catch up, and every node be a member."""
    deadline = world.loop.time() + SETTLE_SECONDS
    while (why := _unsettled(world)) is not None:
        if world.watch.violations:
            return
        if world.loop.time() > deadline:
            world.watch.report("convergence", f"{SETTLE_SECONDS:g} s after everything was healed: {why}")
            return
        await asyncio.sleep(0.25)
        if not world.plan.reconciled:
            with suppress(DwError, asyncio.CancelledError):
                await operator.mend(world, world.rng)


def _unsettled(world: World) -> str | None:
    for node in world.nodes:
        if not node.ready:
            return f"node {node.id} is not up"
    for group in GROUPS:
        leader = world.leader(group)
        if leader is None or leader.host is None:
            return f"group {group} has no leader"
        status = leader.host.status(group)
        if status.configuration.is_joint:
            return f"group {group} is in a joint configuration"
        if {m.node for m in status.configuration.members} != {n.id for n in world.nodes} and world.plan.reconciled:
            return f"group {group} has members {status.configuration.members}"
        if world.plan.reconciled and any(m.role is not MemberRole.VOTER for m in status.configuration.members):
            return f"group {group} has members that do not vote"
        for member in status.configuration.members:
            host = world.node(member.node).host
            if host is None:
                return f"node {member.node} is not up"
            try:
                there = host.status(group)
            except NotFound:
                return f"node {member.node} has no replica of group {group}"
            if there.failed is not None:
                return f"group {group} is broken on node {member.node}: {there.failed}"
            if there.replica != member.replica:
                return f"node {member.node} has another replica of group {group}"
            if there.applied + 100 < status.commit or there.tail_doubt:
                return f"node {member.node} lags in group {group}: {there.applied} of {status.commit}"
    return None


async def read_everywhere(world: World, client: Client) -> None:
    """Every key from every node: what was acknowledged must be seen, by the linearizability of these reads. A node that
    an operator took out of a group and left there is not asked: what it knows of where to ask may be of any age.
    """
    for node in [n for n in world.nodes if all(n in _members(world, group) for group in GROUPS)]:
        for number in range(world.plan.keys):
            until = world.loop.time() + READ_SECONDS
            while not (answered := await client.get(node, f"k{number:02}")) and world.loop.time() < until:  # noqa: ASYNC110
                await asyncio.sleep(0.1)  # a copy of control that was just made says at once that it knows nothing yet
            if not answered:
                world.watch.report("liveness", f"node {node.id} does not answer a read after everything was healed")
                return
    deadline = world.loop.time() + QUIET_SECONDS
    while world.loop.time() < deadline and not _all_applied(world):  # noqa: ASYNC110 - many parties
        await asyncio.sleep(0.1)


def _all_applied(world: World) -> bool:
    for group in GROUPS:
        leader = world.leader(group)
        if leader is None or leader.host is None:
            return False
        last = leader.host.status(group).last
        for member in leader.host.status(group).configuration.members:
            host = world.node(member.node).host
            if host is None or not host.serves(group) or host.status(group).applied < last:
                return False
    return True


def compare_databases(world: World) -> None:
    """Replicas at the same index hold the same rows."""
    for group in GROUPS:
        found: dict[int, tuple[int, str]] = {}
        for node in _members(world, group):
            if node.host is None or not node.host.serves(group):
                continue
            index = node.host.status(group).applied
            digest = content_hash(_database(world, node.id, group), vfs=node.disk.vfs_name)
            other, known = found.setdefault(index, (node.id, digest))
            if known != digest:
                world.watch.report(
                    "state machines", f"group {group} at {index}: nodes {other} and {node.id} hold different rows"
                )
        if len(found) > 1:
            world.watch.report("convergence", f"group {group} stands at {sorted(found)} after everything was healed")


def _members(world: World, group: GroupId) -> list[SimNode]:
    leader = world.leader(group)
    if leader is None or leader.host is None:
        return []
    return [world.node(m.node) for m in leader.host.status(group).configuration.members]


def _database(world: World, node: NodeId, group: GroupId) -> Path:
    folder = world.node(node).disk.root / "groups" / f"group-{hex_id(group)}"
    return folder / (folder / "CURRENT").read_text().strip() / "state.db"
