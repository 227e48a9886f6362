"""dwctl device and scrub: what is asked of the node, what is printed, exit codes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dwd.base.errors import NotFound, SafetyRefused
from dwd.base.exits import Exit
from dwd.pb.admin.v1 import devices_pb2, jobs_pb2
from tests.unit.dwctl.conftest import Node, Ran

Dwctl = Callable[..., Ran]


def test_a_device_names_who_avoids_it_and_why_when_breakers_are_open_or_it_is_slow(dwctl: Dwctl, node: Node) -> None:
    avoided = [
        devices_pb2.Avoidance(device="d1", node_name="n1", breaker="open"),
        devices_pb2.Avoidance(device="d1", node_name="n2", breaker="closed", sluggish=True),
        devices_pb2.Avoidance(device="d1", node_name="n3", breaker="half-open", sluggish=True),
    ]
    node.answers["ListDevices"] = devices_pb2.ListDevicesReply(
        devices=[
            devices_pb2.Device(id="d1", node_name="n4", state="active", avoided=avoided),
            devices_pb2.Device(id="d2", node_name="n5", state="active"),
        ]
    )
    rows = [line.split("\t") for line in dwctl("device", "list").out.splitlines()]
    column = next(at for at, head in enumerate(rows[0]) if head.lower().replace("_", " ") == "avoided by")
    assert rows[1][column] == "n1 (breaker open), n2 (slow), n3 (breaker half-open, slow)"
    assert rows[2][column] == "-"


@pytest.mark.parametrize(
    ("verb", "kind", "arguments"),
    [
        (("device", "drain", "d1"), "device.drain", {"device": "d1"}),
        (("device", "undrain", "d1"), "device.undrain", {"device": "d1"}),
        (("device", "retire", "d1"), "device.retire", {"device": "d1"}),
        (("scrub", "start"), "scrub", {}),
        (("scrub", "start", "--device", "d1"), "scrub", {"device": "d1"}),
        (("scrub", "start", "--node", "n1", "--full-speed"), "scrub", {"node": "n1", "speed": "full"}),
    ],
)
def test_the_plan_is_shown_and_nothing_started_when_it_is_a_dry_run(
    dwctl: Dwctl, node: Node, verb: tuple[str, ...], kind: str, arguments: dict[str, str]
) -> None:
    node.answers["PlanJob"] = jobs_pb2.JobPlanInfo(kind=kind, lines=["what happens"], steps=["one"], hash="h")
    assert "what happens" in dwctl(*verb, "--dry-run").out
    ((_, request),) = node.asked
    assert (request.kind, dict(request.arguments)) == (kind, arguments)


@pytest.mark.parametrize("verb", ["drain", "retire"])
def test_a_refusal_exits_with_4_and_force_is_passed_on(dwctl: Dwctl, node: Node, verb: str) -> None:
    node.answers["PlanJob"] = SafetyRefused("device.holds_data", "2 blocks are on it", hint="drain it first")
    refused = dwctl("device", verb, "d1", "--yes")
    assert refused.code == 4
    assert "2 blocks are on it" in refused.err
    assert not node.asked[-1][1].force
    dwctl("device", verb, "d1", "--force", "--dry-run")
    assert node.asked[-1][1].force


def test_an_unknown_device_is_not_found_and_a_device_beside_a_node_is_no_scrub(dwctl: Dwctl, node: Node) -> None:
    node.answers["PlanJob"] = NotFound("device.not_found", "no device 'ff'")
    assert dwctl("device", "drain", "ff").code == Exit.NOT_FOUND
    asked = len(node.asked)
    assert dwctl("scrub", "start", "--device", "d1", "--node", "n1").code == Exit.USAGE
    assert dwctl("scrub", "start", "--device", "", "--yes").code == Exit.USAGE
    assert len(node.asked) == asked


def test_scrub_status_shows_progress_and_leaves_out_devices_that_were_given_up(dwctl: Dwctl, node: Node) -> None:
    running = devices_pb2.Scrub(number=3, running=True, done_bytes=25, total_bytes=100, order="job-7", found=2)
    node.answers["ListDevices"] = devices_pb2.ListDevicesReply(
        devices=[
            devices_pb2.Device(id="d1", node_name="n1", state="active", answered=True, scrub=running),
            devices_pb2.Device(id="d2", node_name="n2", state="unreachable"),
            devices_pb2.Device(id="d3", node_name="n3", state="lost"),
        ],
        scrub_period_days=7,
    )
    out = dwctl("scrub", "status").out
    assert "25% of 100 B" in out
    assert "job-7" in out
    assert "does not answer" in out
    assert "d3" not in out


def test_the_period_in_force_is_said_when_it_is_set(dwctl: Dwctl, node: Node) -> None:
    node.answers["SetScrubPeriod"] = devices_pb2.SetScrubPeriodReply(days=2.5)
    assert dwctl("scrub", "period", "2.5").out == "every fragment is read within 2.5 days\n"
    assert node.asked[-1][1].days == 2.5
