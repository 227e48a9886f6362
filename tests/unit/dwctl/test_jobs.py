"""Verbs that start jobs, and dwctl job: what is printed, what is asked of the node, exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from dwctl.jobs import run_job
from dwd.base.errors import Conflict, DwError, NotFound, OutcomeUnknown, SafetyRefused, Unavailable
from dwd.pb.admin.v1 import jobs_pb2 as pb
from tests.unit.dwctl.conftest import Node, Ran

Dwctl = Callable[..., Ran]

PLAN = pb.JobPlanInfo(
    kind="node.drain", steps=["mark", "move"], lines=["drains n4"], warnings=["slow"], estimates=["2 GiB"], hash="h"
)


def job(state: str = "running", **facts: Any) -> pb.JobInfo:
    given = {"job": "j7", "kind": "node.drain", "state": state, "steps": ["mark", "move"], "step": 1}
    over = state in {"done", "failed", "cancelled"}
    return pb.JobInfo(**(given | {"step_name": "move", "total": 10, "unit": "blocks", "over": over} | facts))


@pytest.fixture
def answers(node: Node) -> dict[str, Any]:
    node.answers |= {"PlanJob": PLAN, "StartJob": pb.StartJobReply(job="j7")}
    return node.answers


def start(node: Any, **options: Any) -> Any:
    return run_job(node, "node.drain", {"node": "n4"}, **options)


def test_plan_is_shown_and_nothing_started_when_it_is_a_dry_run(
    node: Node, answers: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert start(node, dry_run=True) is None
    assert capsys.readouterr().out == "drains n4\n2 GiB\nwarning: slow\nsteps: mark, move\n"
    assert [method for method, _ in node.asked] == ["PlanJob"]


def test_job_is_followed_to_its_end_and_its_result_printed(
    node: Node, answers: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    answers["WatchJob"] = [
        job("queued", step=0),
        job(done=1, blocker="n2 is down"),
        job(done=1, blocker="n2 is down"),
        job("done", result="all moved"),
    ]
    ended = start(node)
    assert ended is not None
    assert ended.state == "done"
    told = capsys.readouterr()
    assert told.out == "j7 done: all moved\n"
    assert told.err.count("waits for: n2 is down") == 1
    assert "j7  move (2/2)  1 blocks of 10 blocks  waits for: n2 is down" in told.err


def test_plan_hash_is_sent_unless_the_operator_agreed_beforehand(node: Node, answers: dict[str, Any]) -> None:
    answers["WatchJob"] = [job("done")]
    start(node)
    start(node, yes=True)
    assert [request.plan_hash for method, request in node.asked if method == "StartJob"] == ["h", ""]


@pytest.mark.parametrize(
    ("last", "raised", "code"),
    [
        (job("failed", error="no space", error_code="node.no_space"), DwError, "node.no_space"),
        (job("cancelled"), Conflict, "job.cancelled"),
    ],
)
def test_verb_fails_when_its_job_does_not_get_done(
    node: Node, answers: dict[str, Any], last: Any, raised: type[DwError], code: str
) -> None:
    answers["WatchJob"] = [last]
    with pytest.raises(raised) as caught:
        start(node)
    assert (type(caught.value), caught.value.code) == (raised, code)


def breaks(*_: object, **__: object) -> Any:
    yield job()
    raise Unavailable("test.gone", "the node went away")


def test_outcome_is_unknown_when_no_node_answers_for_long(
    node: Node, answers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dwctl.jobs.SILENT_SECONDS_MAX", -1.0)
    node.cluster = "a cluster"  # type: ignore[assignment]
    node.stream = breaks  # type: ignore[method-assign]
    with pytest.raises(OutcomeUnknown) as caught:
        start(node)
    assert caught.value.fields["job"] == "j7"


def test_refusal_of_the_plan_reaches_the_caller(node: Node, answers: dict[str, Any]) -> None:
    answers["PlanJob"] = SafetyRefused("node.quorum", "quorum would be lost")
    with pytest.raises(SafetyRefused):
        start(node)
    assert [method for method, _ in node.asked] == ["PlanJob"]


def test_id_is_printed_and_the_outcome_unknown_when_nobody_waits(dwctl: Dwctl, node: Node) -> None:
    node.answers["StartJob"] = pb.StartJobReply(job="j7")
    node.answers["PlanJob"] = PLAN
    ran = dwctl("job", "start", "node.drain", "node=n4", "--no-wait", "--yes")
    assert (ran.code, ran.out) == (6, "j7\n")


def test_interrupt_leaves_the_job_running_and_prints_its_id(dwctl: Dwctl, node: Node) -> None:
    node.answers["WatchJob"] = KeyboardInterrupt()

    def interrupted(*_: object, **__: object) -> Any:
        yield job()
        raise KeyboardInterrupt

    node.stream = interrupted  # type: ignore[method-assign]
    ran = dwctl("job", "watch", "j7")
    assert ran.code == 130
    assert "j7 goes on" in ran.err
    assert "SetJob" not in [method for method, _ in node.asked]


def test_another_node_is_asked_when_the_first_goes_away(
    node: Node, answers: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Node(answers={"WatchJob": [job("done")]})

    class Connected:
        def __enter__(self) -> Node:
            return other

        def __exit__(self, *_: object) -> None: ...

    node.cluster = "a cluster"  # type: ignore[assignment]
    node.stream = breaks  # type: ignore[method-assign]
    monkeypatch.setattr("dwctl.client.connect", lambda _cluster: Connected())
    monkeypatch.setattr("dwctl.jobs.AGAIN_SECONDS", 0.0)
    start(node)
    told = capsys.readouterr()
    assert "asking other nodes: the node went away" in told.err
    assert told.out == "j7 done\n"


def test_jobs_are_listed_and_shown(dwctl: Dwctl, node: Node) -> None:
    shown = job(done=3, arguments={"node": "n4"}, runner_name="n2", lines=["drains n4"], now_unix_ms=5_000)
    node.answers["ListJobs"] = pb.ListJobsReply(jobs=[shown])
    row = dwctl("job", "list").out.splitlines()[1].split("\t")
    assert row[:5] == ["j7", "node.drain", "node=n4", "running", "move (2/2)"]
    node.answers["GetJob"] = shown
    told = dwctl("job", "show", "j7").out
    assert "steps     mark (done), move (now)" in told
    assert "created   5.0 s ago" in told
    assert dwctl("job", "show", "j7", "--json").document["runner_name"] == "n2"


@pytest.mark.parametrize(("verb", "action"), [("cancel", "CANCEL"), ("pause", "PAUSE"), ("resume", "RESUME")])
def test_operators_steer_a_job(dwctl: Dwctl, node: Node, verb: str, action: str) -> None:
    node.answers["SetJob"] = job()
    assert dwctl("job", verb, "j7").code == 0
    ((_, request),) = node.asked
    assert (request.job, pb.JobAction.Name(request.action)) == ("j7", f"JOB_ACTION_{action}")
    node.answers["SetJob"] = NotFound("job.not_found", "there is no job j7")
    assert dwctl("job", verb, "j7").code == 3


def test_why_names_what_a_thing_waits_for(dwctl: Dwctl, node: Node) -> None:
    node.answers["Explain"] = pb.ExplainReply(
        id="j7", what="job", standing="node.drain is paused",
        reasons=[pb.Reason(about="j7", waits_for="an operator", next="dwctl job resume j7")],
    )  # fmt: skip
    assert dwctl("why", "j7").out.splitlines() == [
        "job j7: node.drain is paused", "  j7 waits for an operator", "    next: dwctl job resume j7",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("counted", "code"),
    [({}, 0), ({"blocks_degraded": 1}, 1), ({"blocks_unreadable": 1}, 1), ({"blocks_unknown": 1}, 1)],
)
def test_verify_succeeds_only_when_every_fragment_was_found(
    dwctl: Dwctl, node: Node, answers: dict[str, Any], counted: dict[str, int], code: int
) -> None:
    names = ("blocks_done", "fragments_found", "fragments_expected", "fragments_bad", "blocks_degraded")
    facts = dict.fromkeys((*names, "blocks_unreadable", "blocks_unknown"), 0) | counted
    answers["WatchJob"] = [job("done", result=json.dumps(facts))]
    ran = dwctl("cluster", "verify", "--json")
    assert (ran.code, ran.document) == (code, facts)
    answers["WatchJob"] = [job("failed", error="broken", error_code="x.y")]
    assert dwctl("cluster", "verify").code == 1
