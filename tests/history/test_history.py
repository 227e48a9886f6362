"""Short runs on real daemons, always of the same seed; `make history MINUTES=10` runs long ones."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from dwd.base.errors import DwError
from tests.history.clients import BUCKET, S3, content
from tests.history.run import run_on
from tests.history.world import World
from tests.integration.harness import until

pytestmark = pytest.mark.integration
SEED, SECONDS = 3, 8.0
DAY_MS = 86_400_000


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("history"), nodes=3)
    try:
        made.up()
        yield made
    finally:
        made.down()


def test_history_is_linearizable_when_processes_network_disks_and_clocks_fail(world: World, tmp_path: Path) -> None:
    done = run_on(world, tmp_path / "history.jsonl", seed=SEED, seconds=SECONDS)
    assert done.good, str(done)
    assert done.counts.outcomes["ok"] > 0, str(done)
    assert done.counts.faults, str(done)


def test_shards_take_new_blocks_and_a_node_leads_nothing_when_its_clock_is_a_day_ahead(world: World) -> None:
    async def put(number: int) -> bool:
        """A block, through a node whose clock is right."""
        node = next(name for name in world.names if name != victim)
        s3 = S3(world.s3, {name: world.endpoint(name) for name in world.names})
        try:
            made = await s3.ask(node, "PUT", f"/{BUCKET}")
            body = content(f"clock {number}", 100_000)
            answer = await s3.ask(node, "PUT", f"/{BUCKET}/clock-{number}", body=body)
        finally:
            await s3.close()
        assert made.status in {200, 409, 503}
        assert answer.status in {200, 503}, answer
        return answer.status == 200

    def reasons() -> list[str]:
        try:
            return list(world.status().reasons)
        except DwError:
            return []

    victim = until("the shard has a leader", world.leader)
    until("it takes a block", lambda: asyncio.run(put(0)))
    world.set_clocks({victim: DAY_MS})
    try:
        until("a block is taken", lambda: asyncio.run(put(1)))
        until("it says why it does not lead", lambda: any(f"node {victim}: its clock is 86" in r for r in reasons()))
        until("another one leads", lambda: world.leader() != victim)
        until("a block is taken with another leader", lambda: asyncio.run(put(2)))
        assert all(group.leader != world.id(victim) for group in world.status().groups)
    finally:
        world.set_clocks({})
    until("it is believed again", lambda: reasons() == [])
    until("a block is taken after all", lambda: asyncio.run(put(3)))
