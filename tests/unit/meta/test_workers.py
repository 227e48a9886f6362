"""Liveness, upkeep and deletion by hand: a clock that tests move, groups on real databases, no Raft."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dwd.base.errors import NotFound, OutcomeUnknown, Unavailable
from dwd.base.ids import CONTROL_GROUP, GroupId, LogIndex, NodeId
from dwd.meta.core.control.commands import BeginDeleteBucket, CreateBucket, CreateUser, SetNodeLiveness
from dwd.meta.core.control.queries import GetBucket
from dwd.meta.core.control.read import deleting_buckets
from dwd.meta.core.control.rows import Liveness
from dwd.meta.core.shard.commands import CreateUpload, DeleteObject, PutObject, StageBlocks
from dwd.meta.core.shard.queries import ChangesPage, GetCounts, ListUploads
from dwd.meta.deletion import delete_bucket
from dwd.meta.view import CHECK_SECONDS, FRESHNESS_SECONDS, ControlView
from dwd.meta.workers.deletion import DeletionWorker
from dwd.meta.workers.liveness import DOWN_SECONDS, LivenessWorker
from dwd.meta.workers.upkeep import DRAIN_ROWS, QUIET_SWEEP_SECONDS, SWEEP_SECONDS, UpkeepOptions, UpkeepWorker
from dwd.runtime.worker import Progress
from tests.twins.manual_clock import ManualClock
from tests.twins.meta_group import SHARD, Group, block

HERE = NodeId(1)


class Liveliness:
    """What LivenessWorker looks at: who was heard of when, who is a member, what control says."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.leading = True
        self.silence = {NodeId(n): 0.0 for n in (1, 2, 3)}
        self.members = [SimpleNamespace(node=NodeId(n)) for n in (1, 2)]
        self.known = {NodeId(n): Liveness.UP for n in (1, 2, 3)}
        self.told: list[tuple[NodeId, Liveness]] = []
        self.worker = LivenessWorker(node=HERE, client=self, host=self, clock=self.clock)  # type: ignore[arg-type]

    @property
    def view(self) -> Any:
        nodes = [SimpleNamespace(node=n, liveness=state) for n, state in self.known.items()]
        return SimpleNamespace(topology=lambda: SimpleNamespace(nodes=nodes))

    def leads(self, group: GroupId) -> bool:
        return self.leading

    def status(self, group: GroupId) -> Any:
        return SimpleNamespace(configuration=SimpleNamespace(members=self.members))

    def last_contact(self, node: NodeId) -> float:
        return self.silence[node]

    async def control(self, command: SetNodeLiveness, *, deadline: float) -> None:
        assert deadline > self.clock.monotonic()
        self.told.append((command.node, command.liveness))
        self.known[command.node] = command.liveness


async def test_silent_member_goes_down_when_the_leader_has_listened_long_enough() -> None:
    case = Liveliness()
    case.silence[NodeId(2)] = float("inf")
    await case.worker.work()
    assert case.told == [], "a new leader has heard of nobody yet"
    case.clock.advance(DOWN_SECONDS)
    await case.worker.work()
    assert case.told == [(2, Liveness.DOWN)]
    await case.worker.work()
    assert len(case.told) == 1, "a transition is told once"


async def test_judging_starts_anew_when_leadership_was_lost_between() -> None:
    case = Liveliness()
    await case.worker.work()
    case.silence[NodeId(2)] = float("inf")
    case.clock.advance(DOWN_SECONDS)
    case.leading = False
    await case.worker.work()
    case.leading = True
    await case.worker.work()
    assert case.told == []


async def test_node_is_not_judged_when_it_is_no_member_yet() -> None:
    case = Liveliness()
    await case.worker.work()
    case.silence[NodeId(3)] = float("inf")
    case.clock.advance(2 * DOWN_SECONDS)
    await case.worker.work()
    assert case.told == []


async def test_node_is_up_again_when_it_is_heard() -> None:
    case = Liveliness()
    case.known[NodeId(2)] = Liveness.DOWN
    await case.worker.work()
    assert case.told == [(2, Liveness.UP)]


class Client:
    """`MetaClient` for workers, over two groups."""

    def __init__(self, root: Path) -> None:
        self.groups = {CONTROL_GROUP: Group(root / "control", CONTROL_GROUP), SHARD: Group(root / "shard")}
        self.clock = ManualClock()
        self.leading = {CONTROL_GROUP: True, SHARD: True}
        self.sent: list[str] = []

    @property
    def view(self) -> Any:
        control = self.groups[CONTROL_GROUP]
        rows = control.reader.inside(deleting_buckets, index_min=control.machine.position().index)
        return SimpleNamespace(deleting_buckets=lambda: rows)

    def leads(self, group: GroupId) -> bool:
        return self.leading[group]

    def shards(self) -> tuple[GroupId, ...]:
        return (SHARD,)

    def holders(self, bucket: str) -> tuple[GroupId, ...]:
        return (SHARD,)

    def position(self, group: GroupId) -> LogIndex:
        return self.groups[group].machine.position().index

    async def control(self, command: Any, *, deadline: float) -> Any:
        return self.groups[CONTROL_GROUP].send(command)

    async def shard(self, group: GroupId, command: Any, *, deadline: float) -> Any:
        assert deadline > self.clock.monotonic()
        self.sent.append(type(command).__name__)
        self.groups[group].now_ms = self.clock.unix_ms()
        return self.groups[group].send(command)

    async def read_group(self, group: GroupId, query: Any, *, deadline: float) -> Any:
        self.sent.append(type(query).__name__)
        return self.groups[group].ask(query)

    async def delete_bucket(self, name: str, *, deadline: float, begun_under: int = 0) -> None:
        await delete_bucket(self, name, deadline=deadline, begun_under=begun_under)

    def upkeep(self, **options: float) -> UpkeepWorker:
        return UpkeepWorker(client=self, clock=self.clock, options=UpkeepOptions(**options))  # type: ignore[arg-type]

    def bucket(self) -> Any:
        return self.groups[CONTROL_GROUP].ask(GetBucket(name="b")).bucket


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    made = Client(tmp_path)
    yield made
    for group in made.groups.values():
        group.close()


def stage(number: int, position: int) -> StageBlocks:
    return StageBlocks(
        bucket="b", key="k", bucket_epoch=1, staged=9, position=position, blocks=(block(number),)
    )  # fmt: skip


async def test_list_of_a_slow_uploader_is_kept_while_it_goes_on(client: Client) -> None:
    worker = client.upkeep(list_hours=6)
    for turn in range(4):
        await client.shard(SHARD, stage(turn, turn), deadline=1e9)
        await worker.work()
        client.clock.advance(2 * 3600)
    whole = PutObject(bucket="b", key="k", bucket_epoch=1, size=400, etag="e", staged=9)
    await client.shard(SHARD, whole, deadline=1e9)


async def test_list_and_upload_are_collected_when_nobody_touched_them(client: Client) -> None:
    await client.shard(SHARD, stage(1, 0), deadline=1e9)
    upload = CreateUpload(bucket="b", key="k", bucket_epoch=1, upload="a" * 32)
    await client.shard(SHARD, upload, deadline=1e9)
    worker = client.upkeep(list_hours=6, upload_days=7)
    client.clock.advance(7 * 3600)
    while await worker.work() is Progress.BUSY:
        pass
    await worker.work()
    shard = client.groups[SHARD]
    assert shard.ask(GetCounts()).gc_waiting == 1
    assert len(shard.ask(ListUploads(bucket="b")).uploads) == 1
    client.clock.advance(7 * 86_400)
    await worker.work()
    assert shard.ask(ListUploads(bucket="b")).uploads == ()
    with pytest.raises(NotFound):
        await client.shard(SHARD, stage(2, 1), deadline=1e9)


async def test_nothing_is_expired_when_the_clock_was_set_back(client: Client) -> None:
    await client.shard(SHARD, stage(1, 0), deadline=1e9)
    client.clock.set_unix_ms(1_000)
    await client.upkeep().work()
    assert client.groups[SHARD].ask(GetCounts()).gc_waiting == 0


async def test_tombstones_go_when_followers_had_their_time(client: Client) -> None:
    put = PutObject(bucket="b", key="k", bucket_epoch=1, size=1, etag="e", inline=b"x")
    for command in (put, DeleteObject(bucket="b", key="k", bucket_epoch=1)):
        await client.shard(SHARD, command, deadline=1e9)
    worker = client.upkeep(tombstone_hours=24)
    shard = client.groups[SHARD]
    await worker.work()
    assert [c.deleted for c in shard.ask(ChangesPage(after=0)).changes] == [True]
    client.clock.advance(25 * 3600)
    await worker.work()
    assert shard.ask(ChangesPage(after=0)).changes == ()


async def test_a_shard_is_left_alone_when_nothing_in_it_has_changed(client: Client) -> None:
    worker = client.upkeep()
    assert await worker.work() is Progress.IDLE
    await worker.work()
    client.sent.clear()
    client.clock.advance(SWEEP_SECONDS)
    await worker.work()
    assert client.sent == []
    client.clock.advance(QUIET_SWEEP_SECONDS)
    await worker.work()
    assert client.sent == ["ExpireAbandoned", "TrimTombstones"]


async def test_a_shard_is_swept_soon_when_it_has_changed(client: Client) -> None:
    worker = client.upkeep()
    await worker.work()
    await client.shard(SHARD, stage(0, 0), deadline=1e9)
    client.sent.clear()
    await worker.work()
    assert client.sent == ["GetCounts"]
    client.clock.advance(SWEEP_SECONDS)
    await worker.work()
    assert client.sent[1:] == ["ExpireAbandoned", "TrimTombstones"]


async def test_large_object_is_drained_in_steps_when_it_was_deleted(client: Client) -> None:
    for turn in range(3):
        blocks = tuple(block(turn * 1000 + n) for n in range(DRAIN_ROWS))
        command = StageBlocks(bucket="b", key="k", bucket_epoch=1, staged=9, position=turn * DRAIN_ROWS, blocks=blocks)
        await client.shard(SHARD, command, deadline=1e9)
    whole = PutObject(bucket="b", key="k", bucket_epoch=1, size=150_000, etag="e", staged=9)
    await client.shard(SHARD, whole, deadline=1e9)
    await client.shard(SHARD, DeleteObject(bucket="b", key="k", bucket_epoch=1), deadline=1e9)
    worker, passes = client.upkeep(), 0
    while await worker.work() is Progress.BUSY:
        passes += 1
    assert passes >= 3
    counts = client.groups[SHARD].ask(GetCounts())
    assert (counts.gc_waiting, counts.drains_waiting, counts.blocks) == (3 * DRAIN_ROWS, 0, 0)


async def test_upkeep_is_another_nodes_when_this_one_does_not_lead(client: Client) -> None:
    client.leading[SHARD] = False
    assert await client.upkeep().work() is Progress.IDLE
    assert client.sent == []


async def test_deletion_is_finished_when_its_caller_went_away(client: Client) -> None:
    control = client.groups[CONTROL_GROUP]
    control.send(CreateUser(name="u"))
    control.send(CreateBucket(name="b", owner="u", profile="none"))
    worker = DeletionWorker(client=client, clock=client.clock)  # type: ignore[arg-type]
    control.send(BeginDeleteBucket(name="b"))
    await worker.work()
    assert client.bucket() is not None, "its caller has time to finish"
    await worker.work()
    assert client.bucket() is None


async def test_deletion_is_undone_when_the_bucket_is_not_empty(client: Client) -> None:
    control = client.groups[CONTROL_GROUP]
    control.send(CreateUser(name="u"))
    epoch = control.send(CreateBucket(name="b", owner="u", profile="none")).count
    put = PutObject(bucket="b", key="k", bucket_epoch=epoch, size=1, etag="e", inline=b"x")
    await client.shard(SHARD, put, deadline=1e9)
    worker = DeletionWorker(client=client, clock=client.clock)  # type: ignore[arg-type]
    control.send(BeginDeleteBucket(name="b"))
    for _ in range(2):
        await worker.work()
    assert client.bucket().epoch > epoch
    put = PutObject(bucket="b", key="k2", bucket_epoch=client.bucket().epoch, size=1, etag="e", inline=b"x")
    await client.shard(SHARD, put, deadline=1e9)


async def test_bucket_made_anew_is_left_alone_when_the_worker_looks_at_the_old_one(client: Client) -> None:
    control = client.groups[CONTROL_GROUP]
    control.send(CreateUser(name="u"))
    control.send(CreateBucket(name="b", owner="u", profile="none"))
    worker = DeletionWorker(client=client, clock=client.clock)  # type: ignore[arg-type]
    control.send(BeginDeleteBucket(name="b"))
    await worker.work()
    old = client.view

    class Stale(Client):
        view = old

    await client.delete_bucket("b", deadline=1e9)
    control.send(CreateBucket(name="b", owner="u", profile="none"))
    client.__class__ = Stale
    await worker.work()
    assert client.bucket() is not None


class Contact:
    """What the view asks of the host."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.silence = 0.0
        self.here = True
        self.facts: dict[str, Any] = {"failed": None, "leader_node": 2, "leader": 102, "replica": 101}
        databases = SimpleNamespace(on_changed=lambda _: None)
        self.view = ControlView(self, databases, self.clock)  # type: ignore[arg-type]

    def status(self, group: GroupId) -> Any:
        if not self.here:
            raise NotFound("raft.no_group", "not here")
        return SimpleNamespace(**self.facts)

    def last_contact(self, node: NodeId) -> float:
        return self.silence


@pytest.mark.parametrize(
    "change",
    [{"failed": OutcomeUnknown("t.f", "broken")}, {"leader_node": 0}],
    ids=["replica broken", "no leader known"],
)
async def test_copy_of_control_is_refused_when_nobody_vouches_for_it(change: dict[str, Any]) -> None:
    contact = Contact()
    contact.facts |= change
    with pytest.raises(Unavailable):
        contact.view.require_fresh()


async def test_copy_of_control_is_refused_when_the_leader_fell_silent() -> None:
    contact = Contact()
    contact.view.require_fresh()
    contact.silence = FRESHNESS_SECONDS + 0.1
    contact.clock.advance(CHECK_SECONDS)
    with pytest.raises(Unavailable):
        contact.view.require_fresh()
    contact.silence = 0.0
    contact.view.require_fresh()
    contact.here = False
    contact.clock.advance(CHECK_SECONDS)
    with pytest.raises(Unavailable):
        contact.view.require_fresh()


async def test_copy_of_control_is_fresh_when_this_node_leads_it() -> None:
    contact = Contact()
    contact.facts |= {"leader": 101, "leader_node": 1}
    contact.silence = float("inf")
    contact.view.require_fresh()
