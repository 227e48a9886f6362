"""When the leader of control makes a layout, when it stages one, and when layouts retire."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dwd.base.errors import Conflict, StorageFailed, Unavailable
from dwd.base.ids import CONTROL_GROUP, DeviceId, GroupId, LayoutEpoch, NodeId, Stamp, stamp_of
from dwd.blocks.core.layout import decode_layout
from dwd.blocks.device_facts import DeviceState
from dwd.blocks.layouts import AUTOMATIC_SETTING
from dwd.blocks.topology import DeviceHealth, DeviceView
from dwd.meta.core.control.commands import ApplyLayout, DropStagedLayout, RetireLayouts, StageLayout
from dwd.meta.core.control.queries import Topology
from dwd.meta.core.control.rows import LayoutRow, SettingRow, StagedLayoutRow
from dwd.meta.core.shard.commands import FenceLayouts
from dwd.meta.core.shard.rows import EpochUse, ShardCounts
from dwd.node.layout_workers import FenceWorker, LayoutWorker, RetireWorker
from dwd.runtime.worker import Progress
from tests.twins.manual_clock import ManualClock
from tests.unit.node.rows import topology

UP, DOWN, LOST = DeviceHealth.UP, DeviceHealth.DOWN, DeviceHealth.LOST
SETTLE = 5.0
MANUAL = (SettingRow(name=AUTOMATIC_SETTING, value="off", changed=Stamp(0)),)


class Control:
    """Stands for the metadata client: what control knows, what was proposed to it, which epochs the shards name."""

    def __init__(self, known: Topology, *, leads: bool = True) -> None:
        self.known, self.leading = known, leads
        self.proposed: list[Any] = []
        self.refusal: Exception | None = None
        self.used: dict[int, list[dict[int, int]]] = {}
        """By shard, what it answers one time after another; the last stays."""

    @property
    def view(self) -> Control:
        return self

    def topology(self) -> Topology:
        return self.known

    def buckets(self) -> tuple[Any, ...]:
        return ()

    def leads(self, group: GroupId) -> bool:
        return self.leading and group == CONTROL_GROUP

    def shards(self) -> tuple[GroupId, ...]:
        return tuple(GroupId(group) for group in self.used)

    async def control(self, command: Any, *, deadline: float) -> None:
        assert deadline > 0
        if self.refusal is not None:
            raise self.refusal
        self.proposed.append(command)

    async def shard(self, group: GroupId, command: Any, *, deadline: float) -> None:
        self.proposed.append((group, command))

    async def read_group(self, group: GroupId, _query: Any, *, deadline: float) -> ShardCounts:
        answers = self.used[group]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        epochs = tuple(EpochUse(epoch=LayoutEpoch(e), blocks=n) for e, n in found.items())
        return ShardCounts(
            objects=0, bytes=0, blocks=0, not_fully_redundant=0, gc_waiting=0, drains_waiting=0, epochs=epochs
        )

    def took(self) -> None:
        """Control has what was proposed last."""
        command = self.proposed.pop()
        if isinstance(command, ApplyLayout):
            row = LayoutRow(epoch=command.epoch, layout=command.layout, applied=Stamp(0))
            self.known = replace(self.known, layouts=(*self.known.layouts, row))
        elif isinstance(command, StageLayout):
            staged = StagedLayoutRow(epoch=command.epoch, layout=command.layout, staged=Stamp(0))
            self.known = replace(self.known, staged_layout=staged)


class Members:
    """One device a node; a worker over them."""

    def __init__(self, control: Control, **health: DeviceHealth) -> None:
        self.health = {int(name[1:]): state for name, state in health.items()}
        self.weight, self.writable = 10, True
        self.control, self.clock = control, ManualClock()
        meta: Any = control
        there: Any = self
        self.worker = LayoutWorker(meta=meta, topology=there, clock=self.clock, settle_seconds=SETTLE)

    def devices(self) -> dict[DeviceId, DeviceView]:
        return {
            DeviceId(n): DeviceView(
                device=DeviceId(n), node=NodeId(n), zone=f"z{n}", rack="", weight=self.weight, health=state,
                writable=self.writable or n == 1,
            )
            for n, state in self.health.items()
        }  # fmt: skip

    async def settled(self) -> Progress:
        """What the worker does once things are quiet."""
        await self.worker.work()
        self.clock.advance(SETTLE)
        return await self.worker.work()


def devices_of(command: Any) -> set[int]:
    return {int(d.device) for d in decode_layout(command.layout).devices}


async def test_layout_follows_members_and_not_who_is_up() -> None:
    control = Control(topology())
    members = Members(control, d1=UP, d2=UP, d3=DOWN)
    assert await members.worker.work() is Progress.BUSY, "the first waits for nothing"
    assert (control.proposed[0].epoch, devices_of(control.proposed[0])) == (1, {1, 2, 3})
    control.took()
    members.health = {1: DOWN, 2: UP, 3: UP}
    assert await members.settled() is Progress.IDLE
    members.health = {1: UP, 2: UP, 3: LOST}
    assert await members.settled() is Progress.BUSY
    assert (control.proposed[0].epoch, devices_of(control.proposed[0])) == (2, {1, 2})


async def test_what_takes_no_data_is_left_out() -> None:
    control = Control(topology())
    members = Members(control, d1=UP, d2=UP, d3=UP)
    members.writable = False
    await members.worker.work()
    assert devices_of(control.proposed[0]) == {1}, "the others drain or are read-only"


async def test_devices_that_come_within_a_short_time_make_one_layout() -> None:
    control = Control(topology())
    members = Members(control, d1=UP)
    await members.worker.work()
    control.took()
    for number in (2, 3, 4):
        members.health[number] = UP
        assert await members.worker.work() is Progress.IDLE
        members.clock.advance(SETTLE * 0.9)
        assert members.worker.idle_seconds < SETTLE
    assert await members.worker.work() is Progress.IDLE
    members.clock.advance(SETTLE * 0.2)
    assert await members.worker.work() is Progress.BUSY
    assert devices_of(control.proposed[0]) == {1, 2, 3, 4}


async def test_a_layout_is_made_although_members_come_and_go_all_the_time() -> None:
    control = Control(topology())
    members = Members(control, d1=UP)
    await members.worker.work()
    control.took()
    done = Progress.IDLE
    for step in range(40):
        members.health = {1: UP, 2: UP, 3 + step % 2: UP}
        done = await members.worker.work()
        if done is Progress.BUSY:
            break
        members.clock.advance(SETTLE * 0.5)
    assert done is Progress.BUSY


async def test_a_layout_is_staged_when_operators_want_to_have_a_say() -> None:
    control = Control(replace(topology(), settings=MANUAL))
    members = Members(control, d1=UP)
    assert await members.worker.work() is Progress.BUSY
    assert isinstance(control.proposed[0], ApplyLayout), "without any nothing can be stored"
    control.took()
    members.health[2] = UP
    assert await members.settled() is Progress.BUSY
    assert (type(control.proposed[0]), devices_of(control.proposed[0])) == (StageLayout, {1, 2})
    control.took()
    members.health[3] = UP
    assert await members.settled() is Progress.IDLE, "what an operator may be looking at is not replaced"
    assert control.proposed == []


async def test_what_is_staged_is_dropped_when_a_layout_was_applied_over_it() -> None:
    control = Control(topology())
    members = Members(control, d1=UP)
    await members.worker.work()
    control.took()
    old = StagedLayoutRow(epoch=LayoutEpoch(1), layout=b"", staged=Stamp(0))
    control.known = replace(control.known, staged_layout=old)
    assert await members.worker.work() is Progress.BUSY
    assert control.proposed == [DropStagedLayout()]


async def test_layout_is_left_to_the_leader_of_control() -> None:
    control = Control(topology(), leads=False)
    assert await Members(control, d1=UP).worker.work() is Progress.IDLE
    assert control.proposed == []


async def test_no_layout_is_planned_over_nothing() -> None:
    control = Control(topology())
    none = Members(control, d1=UP)
    none.weight = 0
    assert await none.worker.work() is Progress.IDLE
    assert await Members(control).worker.work() is Progress.IDLE


async def test_lost_race_for_a_layout_is_no_failure() -> None:
    control = Control(topology())
    control.refusal = Conflict("meta.layout_epoch", "another was applied")
    assert await Members(control, d1=UP).worker.work() is Progress.THROTTLED


def layouts(count: int, *, every_seconds: float = 100.0) -> tuple[LayoutRow, ...]:
    return tuple(
        LayoutRow(epoch=LayoutEpoch(n), layout=b"", applied=stamp_of(int(1000 * every_seconds * n)))
        for n in range(1, count + 1)
    )


def retirer(control: Control, *, now_seconds: float = 100_000.0, after_seconds: float = 60.0) -> RetireWorker:
    meta: Any = control
    clock = ManualClock()
    clock.unix_ms = lambda: int(now_seconds * 1000)  # type: ignore[method-assign]
    return RetireWorker(meta=meta, clock=clock, after_seconds=after_seconds)


def fence(group: int, below: int) -> tuple[GroupId, FenceLayouts]:
    return GroupId(group), FenceLayouts(below=LayoutEpoch(below))


async def test_layouts_retire_up_to_the_oldest_that_a_shard_names_after_all_are_fenced() -> None:
    control = Control(topology(layouts=layouts(4)))
    control.used = {1: [{4: 9}], 2: [{3: 1, 4: 2}]}
    assert await retirer(control).work() is Progress.BUSY
    assert control.proposed == [fence(1, 3), fence(2, 3), RetireLayouts(below=LayoutEpoch(3))]


async def test_nothing_retires_while_a_shard_names_the_oldest() -> None:
    control = Control(topology(layouts=layouts(3)))
    control.used = {1: [{1: 1, 3: 5}], 2: [{3: 5}]}
    assert await retirer(control).work() is Progress.IDLE
    assert control.proposed == []


async def test_a_write_that_came_before_the_fence_keeps_its_layout() -> None:
    control = Control(topology(layouts=layouts(3)))
    control.used = {1: [{3: 5}, {2: 1, 3: 5}]}
    assert await retirer(control).work() is Progress.BUSY
    assert control.proposed == [fence(1, 3), RetireLayouts(below=LayoutEpoch(2))]
    control.proposed.clear()
    control.used = {1: [{3: 5}, {1: 1, 3: 5}]}
    assert await retirer(control).work() is Progress.IDLE
    assert control.proposed == [fence(1, 3)]


async def test_a_layout_stays_while_its_successor_is_young() -> None:
    control = Control(topology(layouts=layouts(3)))
    control.used = {1: [{}]}
    assert await retirer(control, now_seconds=350.0).work() is Progress.BUSY
    assert control.proposed[-1] == RetireLayouts(below=LayoutEpoch(2)), "300 s is 50 s ago"
    control.proposed.clear()
    assert await retirer(control, now_seconds=250.0).work() is Progress.IDLE


async def test_nothing_retires_when_a_shard_does_not_answer() -> None:
    control = Control(topology(layouts=layouts(3)))
    control.used = {1: []}

    async def silent(*_: Any, **__: Any) -> ShardCounts:
        raise Unavailable("raft.no_leader", "nobody")

    control.read_group = silent  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        await retirer(control).work()
    assert control.proposed == []


class FencedDevice:
    def __init__(self, *, broken: bool = False) -> None:
        self.state, self.broken = DeviceState.OPEN, broken
        self.fence, self.epoch = self, 0

    def raise_to(self, epoch: int) -> None:
        if self.broken:
            raise StorageFailed("device.broken", "no")
        self.epoch = epoch


async def test_devices_are_fenced_below_the_oldest_layout_in_use_and_one_that_fails_stops_no_other() -> None:
    rows = layouts(3)
    control: Any = Control(topology(layouts=(replace(rows[0], retired=True), *rows[1:])))
    here = (FencedDevice(broken=True), FencedDevice())

    class Local:
        def devices(self) -> tuple[FencedDevice, ...]:
            return here

    local: Any = Local()
    with pytest.raises(StorageFailed):
        await FenceWorker(local=local, meta=control).work()
    assert here[1].epoch == 2
