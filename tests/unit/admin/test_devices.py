"""What the Devices service tells of devices, here and elsewhere, and what it orders."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dwd.admin.context import DeviceReport
from dwd.admin.rpc.devices import DevicesServicer
from dwd.base.errors import InvalidArgument, NotFound
from dwd.base.ids import DeviceId, NodeId, hex_id
from dwd.blocks.core.breaker import BreakerState
from dwd.blocks.core.scrubbing import PERIOD_DAYS_MAX, PERIOD_DAYS_MIN, Pass, ScrubState
from dwd.meta.core.control.commands import SetSetting
from dwd.meta.core.control.rows import DeviceState
from dwd.pb.admin.v1 import devices_pb2 as pb
from tests.unit.node.rows import device_row, node_row, topology

NOW_MS = 1_000_000
FINE = SimpleNamespace(breaker=BreakerState.CLOSED, sluggish=False)


class Here:
    """The context of node 1, whose peers cannot be reached."""

    def __init__(self, *devices: Any, reports: tuple[DeviceReport, ...] = ()) -> None:
        self.node = NodeId(1)
        self.rows = topology(node_row(1), node_row(2), devices=devices)
        self.reports = reports
        self.found: dict[DeviceId, Any] = {}
        self.standings: dict[DeviceId, Any] = {}
        self.sent: list[Any] = []
        self.ordered: list[Any] = []
        self.period_days = 7.0
        self.view = SimpleNamespace(topology=lambda: self.rows)
        self.meta = self.scrub = self.blocks = self.channels = self.latencies = self
        self.clock = SimpleNamespace(unix_ms=lambda: NOW_MS)

    async def devices(self) -> tuple[DeviceReport, ...]:
        return self.reports

    def states(self) -> dict[DeviceId, Any]:
        return self.found

    def standing(self, device: DeviceId) -> Any:
        return self.standings.get(device, FINE)

    def to(self, node: NodeId) -> Any:
        raise NotFound("node.unknown", f"no node {node}")

    def deadline(self) -> float:
        return 0.0

    async def control(self, command: SetSetting, *, deadline: float) -> None:
        self.sent.append(command)

    async def order(self, order: str, devices: list[DeviceId], *, full_speed: bool) -> None:
        self.ordered.append((order, devices, full_speed))

    async def drop_order(self, order: str) -> None:
        self.ordered.append(order)


def report(number: int, **facts: Any) -> DeviceReport:
    given = {"path": f"/d{number}", "weight": 10, "failed": "", "used": 5, "free": 7, "total": 12, "fragments": 3}
    return DeviceReport(device=DeviceId(number), **(given | facts))  # type: ignore[arg-type]


def service(here: Here) -> Any:
    return DevicesServicer(here)  # type: ignore[arg-type]


async def listed(here: Here, *, local: bool = False) -> dict[str, Any]:
    reply = await service(here).ListDevices(pb.ListDevicesRequest(local=local), None)
    return {device.id: device for device in reply.devices}


async def test_devices_of_a_node_that_does_not_answer_are_told_as_control_knows_them() -> None:
    other = NodeId(2)
    here = Here(
        device_row(1),
        device_row(2),
        device_row(3, node=other, state=DeviceState.LOST, reason="gone"),
        device_row(4, node=other, state=DeviceState.FAILED, reason="EIO"),
        reports=(report(1),),
    )
    found = await listed(here)
    told = [(d.state, d.answered, d.node_name, d.reason) for d in (found[hex_id(DeviceId(n))] for n in (1, 2, 3, 4))]
    assert told == [
        ("active", True, "n1", ""),
        ("unreachable", False, "n2", ""),
        ("lost", False, "n2", "gone"),
        ("failed", False, "n2", "EIO"),
    ]
    mine = found[hex_id(DeviceId(1))]
    assert (mine.path, mine.used_bytes, mine.free_bytes, mine.total_bytes, mine.fragments) == ("/d1", 5, 7, 12, 3)
    assert list(await listed(here, local=True)) == [hex_id(DeviceId(1))], "the node's own, when they are asked for"


@pytest.mark.parametrize(
    ("row", "facts", "state", "reason"),
    [
        ({}, {"failed": "EIO"}, "failed", "EIO"),
        ({}, {"failed": "index", "rebuilding": True}, "rebuilding", "index"),
        ({}, {"read_only": "EROFS"}, "read_only", "EROFS"),
        ({"state": DeviceState.RETIRED, "reason": "asked"}, {"failed": "EIO"}, "retired", "asked"),
    ],
)
async def test_what_the_node_finds_is_told_unless_the_device_was_given_up(
    row: dict[str, Any], facts: dict[str, Any], state: str, reason: str
) -> None:
    found = await listed(Here(device_row(1, **row), reports=(report(1, **facts),)))
    told = found[hex_id(DeviceId(1))]
    assert (told.state, told.reason) == (state, reason)


async def test_a_device_says_who_avoids_it_when_its_breaker_is_open_or_it_is_slow() -> None:
    here = Here(device_row(1), device_row(2))
    here.standings[DeviceId(2)] = SimpleNamespace(breaker=BreakerState.OPEN, sluggish=True)
    found = await listed(here)
    assert not found[hex_id(DeviceId(1))].avoided
    (one,) = found[hex_id(DeviceId(2))].avoided
    assert (one.node_name, one.breaker, one.sluggish) == ("n1", "open", True)


@pytest.mark.parametrize(("order", "ends_ms"), [("job-1", NOW_MS + 30_000), ("", NOW_MS - 1_000 + 7 * 86_400_000)])
async def test_a_pass_says_when_it_ends_by_its_rate_when_it_was_ordered_else_by_the_period(
    order: str, ends_ms: int
) -> None:
    here = Here(device_row(1), reports=(report(1),))
    now = Pass(number=2, began_ms=NOW_MS - 1_000, done_bytes=100, total_bytes=400, order=order)
    here.found[DeviceId(1)] = (ScrubState(current=now, last=Pass(number=1, ended_ms=9, found=4)), 10.0)
    scrub = (await listed(here))[hex_id(DeviceId(1))].scrub
    assert (scrub.running, scrub.order, scrub.last_ended_unix_ms, scrub.last_found) == (True, order, 9, 4)
    assert scrub.ends_unix_ms == ends_ms


@pytest.mark.parametrize("days", [PERIOD_DAYS_MIN / 2, PERIOD_DAYS_MAX + 1, -1.0, float("nan")])
async def test_a_period_is_refused_when_it_is_out_of_bounds(days: float) -> None:
    here = Here()
    with pytest.raises(InvalidArgument) as refused:
        await service(here).SetScrubPeriod(pb.SetScrubPeriodRequest(days=days), None)
    assert refused.value.code == "scrub.bad_period"
    assert here.sent == []


async def test_a_period_is_kept_and_zero_gives_back_what_the_tier_wants() -> None:
    here = Here()
    assert (await service(here).SetScrubPeriod(pb.SetScrubPeriodRequest(days=2.5), None)).days == 2.5
    assert (await service(here).SetScrubPeriod(pb.SetScrubPeriodRequest(), None)).days == 7.0
    assert [command.value for command in here.sent] == ["2.5", ""]


async def test_orders_reach_the_scrub_worker_and_are_taken_back() -> None:
    here = Here()
    order = pb.OrderScrubRequest(order="job-1", devices=[hex_id(DeviceId(3))], full_speed=True)
    await service(here).OrderScrub(order, None)
    await service(here).OrderScrub(pb.OrderScrubRequest(order="job-1", cancel=True), None)
    assert here.ordered == [("job-1", [DeviceId(3)], True), "job-1"]
