"""A bucket is stored anew by its job, on real state machines and devices: whatever dies, reads, writes and deletes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dwd.base.errors import Busy, Conflict, Corrupt, DwError, InvalidArgument, NotFound, Unavailable
from dwd.base.ids import CONTROL_GROUP, GroupId, JobId, NodeId, Stamp
from dwd.base.policy import Criticality, Policy, Tier
from dwd.blocks.gc import LeftoverWorker
from dwd.blocks.ports import Owner
from dwd.blocks.profile_job import STORE, ProfileKind, Walk, wished
from dwd.jobs.kinds import JobPlan, LeaseLost
from dwd.meta.core.control.commands import BeginDeleteBucket, CreateBucket, CreateUser, SetBucketPolicy
from dwd.meta.core.control.queries import GetBucket
from dwd.meta.core.shard.commands import (
    CopyInsideShard,
    CreateUpload,
    DeleteObject,
    PutObject,
    PutPart,
    ReplaceBlock,
    StageBlocks,
)
from dwd.meta.core.shard.queries import BlockPage, GcPage, GetObject
from tests.twins.memory_blocks import MemoryCluster, NodeTopology
from tests.twins.meta_group import Group

BIG = os.urandom(140_000)
LATE = Stamp(1 << 62)

SHARD = GroupId(1)
OLD = Policy(profile="rs-4-2")


class Died(Exception):
    """The runner, at a report or a proposal."""


class Bench:
    """One bucket in one shard, on a cluster of six."""

    def __init__(self, cluster: MemoryCluster, control: Group, shard: Group) -> None:
        self.cluster, self.control, self.shard_group = cluster, control, shard
        self.store = cluster.stores[NodeId(1)]
        self.view = SimpleNamespace(topology=lambda: SimpleNamespace(setting=lambda _: ""))
        self.contents: dict[str, bytes] = {}
        self.kind = ProfileKind(
            meta=self,  # type: ignore[arg-type]
            store=self.store,
            topology=NodeTopology(cluster.topology, NodeId(1)),
            clock=cluster.clock,
            bytes_per_second=1 << 40,
        )

    def holders(self, bucket: str) -> tuple[GroupId, ...]:
        return (SHARD,)

    async def read(self, query: Any, *, deadline: float) -> Any:
        return self.control.ask(query)

    async def read_group(self, group: GroupId, query: Any, *, deadline: float) -> Any:
        assert group == SHARD
        return self.shard_group.ask(query)

    @property
    def row(self) -> Any:
        return self.control.ask(GetBucket(name="bkt")).bucket

    async def write(self, data: bytes, policy: Policy = OLD) -> Any:
        owner = Owner(bucket="bkt", key="k")
        return await self.store.write(data, policy=policy, owner=owner, deadline=self.cluster.soon)

    async def put(self, key: str, *sizes: int, policy: Policy = OLD, bucket: str = "bkt") -> None:
        parts = [os.urandom(size) for size in sizes]
        blocks = tuple([await self.write(part, policy) for part in parts])
        self.shard_group.send(
            PutObject(
                bucket=bucket, key=key, bucket_epoch=self.row.epoch, size=sum(sizes), etag=f"e-{key}", blocks=blocks
            )
        )
        if bucket == "bkt":
            self.contents[key] = b"".join(parts)

    def delete(self, key: str) -> None:
        self.shard_group.send(DeleteObject(bucket="bkt", key=key, bucket_epoch=self.row.epoch))
        del self.contents[key]

    async def read_back(self, key: str) -> bytes:
        answer = self.shard_group.ask(GetObject(bucket="bkt", key=key))
        found = b""
        for placed in answer.blocks:
            owner, stored = Owner(bucket="bkt", key="k"), placed.owned.stored
            for view in await self.store.read(
                stored, owner=owner, offset=0, length=stored.length, deadline=self.cluster.soon
            ):
                found += view
        return found

    def profiles(self, bucket: str = "bkt") -> set[tuple[str, str]]:
        rows = self.shard_group.ask(BlockPage(first=0, last=0xFFFF, limit=1000)).blocks
        return {(owned.stored.profile, owned.stored.wanted) for owned in rows if owned.bucket == bucket}

    async def collect(self) -> None:
        """What was given up goes, as the collector has it go."""
        self.store.discard([row.stored for row in self.shard_group.ask(GcPage(before=LATE, limit=1000)).rows])
        worker = LeftoverWorker(
            leftovers=self.store.leftovers, fragments=self.cluster.router(NodeId(1)), clock=self.cluster.clock
        )
        while len(self.store.leftovers):
            await worker.work()

    async def whole(self) -> None:
        await self.collect()
        for key, content in self.contents.items():
            assert await self.read_back(key) == content, key


class Job:
    """`RunningJob` for `bench`; dies at the event of number `die_at`. Outlives its runners: `again`."""

    id = JobId(7)

    def __init__(self, bench: Bench, plan: JobPlan, arguments: dict[str, str]) -> None:
        self.bench, self.plan, self.arguments = bench, plan, arguments
        self.step, self.cursor, self.events, self.die_at = 0, b"", 0, -1
        self.done, self.results = 0, [""]
        self.before_commit: Callable[[ReplaceBlock], Awaitable[None]] | None = None

    @property
    def step_name(self) -> str:
        return self.plan.steps[self.step] if self.step < len(self.plan.steps) else ""

    def _event(self) -> None:
        self.events += 1
        if self.events == self.die_at:
            raise Died

    async def report(self, *, done: int | None = None, cursor: bytes | None = None, **_: Any) -> None:
        self._event()
        self.done = self.done if done is None else done
        self.cursor = self.cursor if cursor is None else cursor

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(0)

    async def control(self, command: Any) -> Any:
        self._event()
        made = self.bench.control.send(command)
        self._event()
        return made

    async def shard(self, group: GroupId, command: Any) -> Any:
        self._event()
        if self.before_commit is not None and isinstance(command, ReplaceBlock):
            await self.before_commit(command)
        made = self.bench.shard_group.send(command)
        self._event()
        return made

    def conclude(self, result: str) -> None:
        self.results.append(result)

    async def to_the_end(self, *, tries: int = 20) -> None:
        """What may pass is tried again, as runners do: the machine may be busy."""
        while True:
            try:
                while self.step < len(self.plan.steps):
                    await self.bench.kind.run(self)  # type: ignore[arg-type]
                    self.step, self.cursor = self.step + 1, b""
                await self.bench.kind.verify(self)  # type: ignore[arg-type]
            except DwError as error:
                tries -= 1
                if not error.retryable or not tries:
                    raise
                await asyncio.sleep(0.05)
            else:
                return


@asynccontextmanager
async def bench_of(tmp_path: Path, nodes: int = 6) -> AsyncIterator[Bench]:
    control, shard = Group(tmp_path / "control", CONTROL_GROUP), Group(tmp_path / "shard")
    control.send(CreateUser(name="u"))
    control.send(CreateBucket(name="bkt", owner="u", profile="rs-4-2"))
    async with MemoryCluster(tmp_path / "devices", nodes=nodes) as cluster:
        yield Bench(cluster, control, shard)
    control.close()
    shard.close()


async def job_for(bench: Bench, **arguments: str) -> Job:
    given = {"bucket": "bkt", **arguments}
    return Job(bench, await bench.kind.plan(given, force=False), given)


async def ends(job: Job) -> bool:
    """False: its runner died."""
    try:
        await job.to_the_end()
    except Died:
        return False
    except ExceptionGroup as group:
        if group.subgroup(Died) is None:
            raise
        return False
    return True


async def furnish(bench: Bench) -> None:
    """Large and small blocks, a copy, an inline object, an upload under way, a staged list, another bucket."""
    await bench.put("large", 200_000, 140_000)
    await bench.put("small", 5_000)
    await bench.put("limit", 131_071, 131_072)
    shard, epoch = bench.shard_group, bench.row.epoch
    shard.send(
        CopyInsideShard(
            bucket="bkt", key="copy", bucket_epoch=epoch, source_bucket="bkt", source_key="large", source_etag="e-large"
        )
    )
    bench.contents["copy"] = bench.contents["large"]
    shard.send(PutObject(bucket="bkt", key="inline", bucket_epoch=epoch, size=3, etag="e", inline=b"abc"))
    await bench.put("elsewhere", 150_000, bucket="other")
    upload = "0" * 32
    shard.send(CreateUpload(bucket="bkt", key="multi", bucket_epoch=epoch, upload=upload))
    part = await bench.write(BIG)
    shard.send(
        PutPart(
            bucket="bkt", key="multi", bucket_epoch=epoch, upload=upload, number=1, size=part.length, etag="p",
            staged=11, blocks=(part,),
        )
    )  # fmt: skip
    staged = await bench.write(BIG)
    shard.send(StageBlocks(bucket="bkt", key="put", bucket_epoch=epoch, staged=12, position=0, blocks=(staged,)))


async def test_everything_of_the_bucket_is_stored_anew_and_nothing_else(tmp_path: Path) -> None:
    async with bench_of(tmp_path) as bench:
        await furnish(bench)
        job = await job_for(bench, profile="rs-2-1")
        assert job.plan.steps == ("set the policy", "tell the shards", "store anew")
        assert any("rs-4-2 becomes rs-2-1" in line for line in job.plan.lines)
        assert job.plan.warnings == ("less is survived than now",)
        await job.to_the_end()
        assert bench.profiles() == {("rs-2-1", ""), ("replica-2", "")}
        assert bench.profiles("other") == {("rs-4-2", "")}
        assert job.done == job.plan.total == 8
        assert job.results[-1].startswith("7 blocks")
        await bench.whole()
        stale = PutObject(bucket="bkt", key="x", bucket_epoch=bench.row.epoch - 1, size=1, etag="e", inline=b"x")
        with pytest.raises(Conflict, match="changed meanwhile"):
            bench.shard_group.send(stale)


async def test_the_job_ends_the_same_wherever_its_runners_die(tmp_path: Path) -> None:
    async with bench_of(tmp_path / "first") as bench:
        await furnish(bench)
        job = await job_for(bench, profile="replica-2")
        await job.to_the_end()
        events = job.events
    assert events > 15
    async with bench_of(tmp_path / "second") as bench:
        await furnish(bench)
        job = await job_for(bench, profile="replica-2")
        for die_at in range(1, events + 40):
            job.events, job.die_at = 0, die_at % 7 + 1
            if await ends(job):
                break
        else:
            pytest.fail("it never ends")
        assert bench.profiles() == {("replica-2", "")}
        await bench.whole()


@pytest.mark.parametrize("die_at", range(1, 28, 3))
async def test_another_runner_ends_the_job_when_the_first_died_there(tmp_path: Path, die_at: int) -> None:
    async with bench_of(tmp_path) as bench:
        await furnish(bench)
        job = await job_for(bench, profile="rs-2-2")
        job.die_at = die_at
        assert not await ends(job) or job.events < die_at
        await bench.whole()
        job.die_at = -1
        assert await ends(job)
        assert bench.profiles() == {("rs-2-2", ""), ("replica-3", "")}
        await bench.whole()


async def test_readers_writers_and_deleters_go_on_while_it_works(tmp_path: Path) -> None:
    async with bench_of(tmp_path) as bench:
        for number in range(12):
            await bench.put(f"k{number}", 132_000 + number, 3_000)
        job = await job_for(bench, profile="rs-3-2")
        seen: list[str] = []
        turns = 0
        one_at_a_time = asyncio.Lock()  # the job commits blocks side by side

        async def meddle(_: ReplaceBlock) -> None:
            async with one_at_a_time:
                await take_turn()

        async def take_turn() -> None:
            nonlocal turns
            turns += 1
            keys = sorted(bench.contents)
            for key in keys[:: max(1, len(keys) // 3)]:
                assert await bench.read_back(key) == bench.contents[key]
                seen.append(key)
            if turns % 4 == 1:
                bench.delete(keys[0])
            elif turns % 4 == 2:
                await bench.put(keys[1], 140_000, policy=bench.row.policy)
            elif turns % 4 == 3:
                await bench.put(f"new{turns}", 150_000, policy=bench.row.policy)

        job.before_commit = meddle
        await job.to_the_end()
        assert len(seen) > 30
        assert bench.profiles() == {("rs-3-2", ""), ("replica-3", "")}
        await bench.whole()


async def test_blocks_written_by_the_old_policy_are_found_when_they_come_late(tmp_path: Path) -> None:
    async with bench_of(tmp_path) as bench:
        await bench.put("a", 200_000)
        job = await job_for(bench, profile="rs-2-1")
        late = 0

        async def come_late(_: ReplaceBlock) -> None:
            nonlocal late
            if late < 3:
                late += 1
                await bench.put(f"late{late}", 160_000)

        job.before_commit = come_late
        await job.to_the_end()
        assert late == 3
        assert bench.profiles() == {("rs-2-1", "")}
        await bench.whole()


async def test_new_writes_alone_follow_when_what_is_there_is_not_to_be_converted(tmp_path: Path) -> None:
    async with bench_of(tmp_path) as bench:
        await bench.put("a", 200_000)
        job = await job_for(bench, profile="rs-2-1", convert="no")
        assert STORE not in job.plan.steps
        await job.to_the_end()
        assert (bench.row.profile, bench.profiles()) == ("rs-2-1", {("rs-4-2", "")})


async def test_the_job_waits_with_the_reason_when_devices_are_away(tmp_path: Path) -> None:
    async with bench_of(tmp_path) as bench:
        await bench.put("a", 200_000)
        for node in (4, 5, 6):
            bench.cluster.kill(NodeId(node))
        job = await job_for(bench, profile="rs-2-1")
        for node in (2, 3):
            bench.cluster.kill(NodeId(node), noticed=True)
        with pytest.raises((Busy, Unavailable)):
            await job.to_the_end(tries=1)
        for node in range(2, 7):
            bench.cluster.revive(NodeId(node))
        await job.to_the_end()
        assert bench.profiles() == {("rs-2-1", "")}


async def test_blocks_that_cannot_be_read_do_not_stop_the_rest_and_are_named(tmp_path: Path) -> None:
    async with bench_of(tmp_path) as bench:
        await bench.put("lost", 200_000)
        (lost,) = [placed.owned.stored for placed in bench.shard_group.ask(GetObject(bucket="bkt", key="lost")).blocks]
        bench.store.discard((lost,))
        await bench.collect()
        await bench.put("kept", 150_000)
        job = await job_for(bench, profile="rs-2-1")
        with pytest.raises(Corrupt) as failed:
            await job.to_the_end()
        assert lost.block.hex() in failed.value.message
        assert bench.profiles() == {("rs-2-1", ""), ("rs-4-2", "")}
        assert await bench.read_back("kept") == bench.contents["kept"]


async def test_the_job_fails_when_somebody_sets_another_policy_meanwhile(tmp_path: Path) -> None:
    async with bench_of(tmp_path) as bench:
        await furnish(bench)
        job = await job_for(bench, profile="rs-2-1")

        async def override(_: ReplaceBlock) -> None:
            bench.control.send(SetBucketPolicy(name="bkt", profile="replica-3"))

        job.before_commit = override
        with pytest.raises(Conflict, match="another policy"):
            await job.to_the_end()
        await bench.whole()


async def test_a_lost_lease_ends_the_step_as_itself(tmp_path: Path) -> None:
    async with bench_of(tmp_path) as bench:
        await furnish(bench)
        job = await job_for(bench, profile="rs-2-1")

        async def lose(_: ReplaceBlock) -> None:
            raise LeaseLost("job.lease_lost", "another node runs it")

        job.before_commit = lose
        with pytest.raises(LeaseLost):
            await job.to_the_end()
        assert bench.profiles() == {("rs-4-2", ""), ("replica-3", "")}
        await bench.whole()


async def test_fallbacks_are_written_and_marked_when_the_cluster_is_too_small(tmp_path: Path) -> None:
    async with bench_of(tmp_path, nodes=3) as bench:
        await bench.put("a", 200_000, policy=Policy(profile="replica-2"))
        with pytest.raises(InvalidArgument, match="needs 6 devices"):
            await job_for(bench, profile="rs-4-2", fallback="no")
        job = await job_for(bench, profile="rs-4-2", fallback="yes")
        assert "needs 6 devices" in job.plan.warnings[0]
        await job.to_the_end()
        assert bench.profiles() == {("replica-3", "rs-4-2")}
        await bench.whole()


async def test_plans_are_refused_when_they_make_no_sense(tmp_path: Path) -> None:
    async with bench_of(tmp_path) as bench:
        refused: list[tuple[dict[str, str], type[DwError]]] = [
            ({"bucket": "nothing"}, NotFound),
            ({"profile": "raid7"}, InvalidArgument),
            ({"profile": "standard"}, InvalidArgument),
            ({"tier": "gold"}, InvalidArgument),
            ({"criticality": "huge"}, InvalidArgument),
            ({"convert": "perhaps"}, InvalidArgument),
            ({"colour": "red"}, InvalidArgument),
        ]
        for arguments, kind in refused:
            with pytest.raises(kind):
                await job_for(bench, **arguments)
        bench.control.send(BeginDeleteBucket(name="bkt"))
        with pytest.raises(Conflict):
            await job_for(bench, profile="rs-2-1")


def test_what_is_not_said_stays_as_it_is() -> None:
    policy = Policy(profile="auto", tier=Tier.SMB, criticality=Criticality.HIGH, allow_fallback=True)
    assert wished(policy, {"bucket": "b"}) == (policy, True)
    assert wished(policy, {"bucket": "b", "profile": "rs-4-2", "fallback": "no", "convert": "no"}) == (
        replace(policy, profile="rs-4-2", allow_fallback=False),
        False,
    )
    walk = Walk(group=3, after="00ff", walked=7, unreadable=("ab",), unreadable_count=1)
    assert Walk.decode(walk.encode()) == walk
    assert Walk.decode(b"") == Walk()
