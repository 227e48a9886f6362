"""Commands about jobs: every state and wish, leases and their epochs, bounds; fences in control and in shards."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dwd.base.errors import Busy, DwError, InvalidArgument, NotFound
from dwd.base.ids import CONTROL_GROUP, JobId, NodeId
from dwd.meta.core.control import jobs
from dwd.meta.core.control.commands import AddNode, SetNodeLiveness, SetSetting
from dwd.meta.core.control.job_commands import AskJob, CreateJob, FinishJob, LeaseJob, ReportJob
from dwd.meta.core.control.job_queries import GetJob, ListJobs
from dwd.meta.core.control.job_rows import JobPlan, JobRow, JobState, JobWish, arguments_of, plan_hash
from dwd.meta.core.control.queries import GetTopology
from dwd.meta.core.control.rows import Domain, Liveness, NodeAddresses
from dwd.meta.core.fencing import Fence
from dwd.meta.core.shard import fences
from dwd.meta.core.shard.commands import CreateUpload, DeleteObject, HoldFence, SweepFences
from dwd.meta.core.shard.queries import GetFences, GetUsage
from tests.twins.meta_group import Group

HERE, THERE = NodeId(1), NodeId(2)
LEASE_MS = 10_000
PLAN = JobPlan(steps=("one", "two"), lines=("does it",), total=7, unit="blocks", details=b'{"a":1}')


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Group]:
    group = Group(tmp_path, CONTROL_GROUP)
    for node in (HERE, THERE):
        group.send(
            AddNode(
                node=node, name=f"n{node}", addresses=NodeAddresses(grpc="", s3="", admin=""), domain=Domain(),
                sealing_key=b"k", sealed_keyring=b"",
            )
        )  # fmt: skip
    yield group
    group.close()


@pytest.fixture
def shard(tmp_path: Path) -> Iterator[Group]:
    group = Group(tmp_path / "shard")
    yield group
    group.close()


def creation(number: int = 1, *, kind: str = "test.kind", plan: JobPlan = PLAN) -> CreateJob:
    arguments = arguments_of({"number": str(number)})
    return CreateJob(
        kind=kind, arguments=arguments, plan=plan, plan_hash=plan_hash(kind, arguments, plan), asked_by="me"
    )


def create(control: Group, number: int = 1) -> JobId:
    return JobId(control.send(creation(number)).count)


def lease(control: Group, job: JobId, node: NodeId = HERE) -> int:
    return control.send(LeaseJob(job=job, node=node, lease_ms=LEASE_MS)).count


def report(job: JobId, epoch: int, **what: Any) -> ReportJob:
    given = {"step": 0, "done": 0, "total": 7, "blocker": "", "cursor": b"", "lease_ms": LEASE_MS} | what
    return ReportJob(job=job, epoch=epoch, **given)


def row(control: Group, job: JobId) -> JobRow:
    found = control.ask(GetJob(job=job)).job
    assert found is not None
    return found


def refusal(group: Group, command: Any, **options: Any) -> str:
    """Its code; empty when it was not refused."""
    outcome = group.outcome(command, **options)
    return outcome.code if isinstance(outcome, DwError) else ""


def brought_to(control: Group, state: JobState) -> tuple[JobId, int]:
    """A new job in that state, and its last lease's epoch."""
    job, epoch = create(control), 0
    if state is JobState.QUEUED:
        return job, epoch
    if state is not JobState.PAUSED:
        epoch = lease(control, job)
    wish = {JobState.PAUSED: JobWish.PAUSE, JobState.CANCELLING: JobWish.CANCEL, JobState.CANCELLED: JobWish.CANCEL}
    if state in wish:
        control.send(AskJob(job=job, wish=wish[state]))
    if state is JobState.CANCELLED:
        epoch = lease(control, job)
    if state in {JobState.DONE, JobState.FAILED, JobState.CANCELLED}:
        control.send(FinishJob(job=job, epoch=epoch, state=state))
    assert row(control, job).state is state
    return job, epoch


WISHES = """
    queued     pause  paused       resume queued      cancel cancelling
    running    pause  paused       resume running     cancel cancelling
    paused     pause  paused       resume queued      cancel cancelling
    cancelling pause  !cancelling  resume !cancelling cancel cancelling
    cancelled  pause  !over        resume !over       cancel !over
    done       pause  !over        resume !over       cancel !over
    failed     pause  !over        resume !over       cancel !over
"""


def wishes() -> Iterator[tuple[str, str, str]]:
    for line in WISHES.strip().splitlines():
        state, *pairs = line.split()
        yield from ((state, pairs[at], pairs[at + 1]) for at in range(0, len(pairs), 2))


@pytest.mark.parametrize(("state", "wish", "then"), wishes())
def test_wish_leads_where_the_table_says(control: Group, state: str, wish: str, then: str) -> None:
    job, _ = brought_to(control, JobState[state.upper()])
    before = row(control, job)
    code = refusal(control, AskJob(job=job, wish=JobWish[wish.upper()]))
    after = row(control, job)
    if then.startswith("!"):
        assert (code, after) == (f"job.{then[1:]}", before)
        return
    assert (code, after.state.name.lower()) == ("", then)
    taken = after.state is not before.state
    assert after.epoch == before.epoch + taken
    assert (after.runner == 0) == (taken or before.runner == 0), "a wish that changes something takes the lease away"


LEASES = """
    queued running
    running !leased
    paused !not_leasable
    cancelling cancelling
    cancelled !not_leasable
    done !not_leasable
    failed !not_leasable
"""


@pytest.mark.parametrize(("state", "then"), [line.split() for line in LEASES.strip().splitlines()])
def test_lease_is_granted_in_the_states_of_the_table(control: Group, state: str, then: str) -> None:
    job, _ = brought_to(control, JobState[state.upper()])
    before = row(control, job)
    code = refusal(control, LeaseJob(job=job, node=THERE, lease_ms=LEASE_MS))
    after = row(control, job)
    if then.startswith("!"):
        assert (code, after) == (f"job.{then[1:]}", before)
    else:
        assert (code, after.state.name.lower(), after.runner) == ("", then, THERE)
        assert (after.epoch, after.attempts) == (before.epoch + 1, before.attempts + 1)


def test_lease_is_taken_over_once_it_expired_by_the_stamp_of_the_entry(control: Group) -> None:
    job = create(control)
    first = lease(control, job)
    control.now_ms += LEASE_MS - 100
    assert refusal(control, LeaseJob(job=job, node=THERE, lease_ms=LEASE_MS)) == "job.leased"
    control.send(report(job, first))
    control.now_ms += LEASE_MS - 100
    assert refusal(control, LeaseJob(job=job, node=THERE, lease_ms=LEASE_MS)) == "job.leased", "the report renewed it"
    control.now_ms += 200
    control.send(report(job, first)), "nobody took it: it is still held"
    control.now_ms += LEASE_MS + 100
    assert lease(control, job, THERE) == first + 1
    assert refusal(control, report(job, first)) == "job.fenced"


@pytest.mark.parametrize("gone", [True, False])
def test_lease_is_taken_over_at_once_when_its_node_is_down_but_not_when_it_is_up(control: Group, *, gone: bool) -> None:
    job = create(control)
    lease(control, job)
    control.send(SetNodeLiveness(node=HERE, liveness=Liveness.DOWN if gone else Liveness.UP))
    code = refusal(control, LeaseJob(job=job, node=THERE, lease_ms=LEASE_MS))
    assert code == ("" if gone else "job.leased")


def test_node_takes_its_own_lease_anew_when_its_daemon_was_restarted(control: Group) -> None:
    job = create(control)
    first = lease(control, job)
    assert lease(control, job) == first + 1
    assert refusal(control, report(job, first)) == "job.fenced"


def test_report_is_kept_and_never_goes_back_a_step(control: Group) -> None:
    job = create(control)
    epoch = lease(control, job)
    control.send(report(job, epoch, step=1, done=3, total=9, blocker="n2 is down", cursor=b"here"))
    found = row(control, job)
    assert (found.step, found.done, found.total, found.blocker, found.cursor) == (1, 3, 9, "n2 is down", b"here")
    assert found.step_name == "two"
    assert refusal(control, report(job, epoch, step=0)) == "job.step"
    assert refusal(control, report(job, epoch, step=1, done=-1)) == "job.progress"
    assert refusal(control, report(job, epoch, step=1, cursor=bytes(jobs.CURSOR_BYTES_MAX + 1))) == "job.report"
    assert row(control, job) == found


def test_job_that_is_given_back_waits_for_the_next_and_fences_its_last_runner(control: Group) -> None:
    job = create(control)
    epoch = lease(control, job)
    control.send(report(job, epoch, step=1, cursor=b"here", lease_ms=0))
    found = row(control, job)
    assert (found.state, found.runner, found.step, found.cursor) == (JobState.QUEUED, 0, 1, b"here")
    assert refusal(control, report(job, epoch, step=1)) == "job.fenced"
    assert refusal(control, FinishJob(job=job, epoch=epoch, state=JobState.DONE)) == "job.fenced"


@pytest.mark.parametrize(
    ("state", "end", "code"),
    [
        (JobState.RUNNING, JobState.DONE, ""),
        (JobState.RUNNING, JobState.FAILED, ""),
        (JobState.RUNNING, JobState.CANCELLED, "job.finish"),
        (JobState.RUNNING, JobState.QUEUED, "job.finish"),
        (JobState.CANCELLING, JobState.CANCELLED, ""),
        (JobState.CANCELLING, JobState.FAILED, ""),
        (JobState.CANCELLING, JobState.DONE, "job.finish"),
    ],
)
def test_job_ends_only_as_its_state_allows(control: Group, state: JobState, end: JobState, code: str) -> None:
    job, _ = brought_to(control, state)
    epoch = lease(control, job)
    assert refusal(control, FinishJob(job=job, epoch=epoch, state=end, result="r", error_code="c", error="e")) == code
    found = row(control, job)
    assert found.state is (state if code else end)
    if not code:
        assert (found.result, found.error_code, found.error, found.runner, found.cursor) == ("r", "c", "e", 0, b"")


def test_job_is_not_made_twice_while_one_like_it_lives(control: Group) -> None:
    job = create(control)
    again = control.send(creation())
    assert (again.existed, again.count) == (True, job)
    assert not control.send(creation(2)).existed
    control.send(FinishJob(job=job, epoch=lease(control, job), state=JobState.DONE))
    after = control.send(creation())
    assert (after.existed, after.count > job) == (False, True)


@pytest.mark.parametrize(
    "wrong",
    [
        replace(creation(), plan_hash="0" * 64),
        replace(creation(), plan=replace(PLAN, lines=("does something else",))),
        replace(creation(), arguments=()),
        creation(kind="Not A Kind"),
        creation(plan=replace(PLAN, steps=())),
        creation(plan=replace(PLAN, steps=("x",) * (jobs.STEPS_MAX + 1))),
        creation(plan=replace(PLAN, details=bytes(jobs.PLAN_BYTES_MAX))),
        replace(creation(), arguments=arguments_of({"a": "x" * jobs.ARGUMENTS_CHARACTERS_MAX})),
    ],
)
def test_job_is_refused_when_its_plan_is_not_the_one_hashed_or_past_a_bound(control: Group, wrong: CreateJob) -> None:
    with pytest.raises(InvalidArgument):
        control.send(wrong)
    assert control.ask(ListJobs(over=True)).jobs == ()


def test_plan_hash_is_the_same_when_only_estimates_change() -> None:
    arguments = arguments_of({"node": "n1"})
    moved = replace(PLAN, estimates=("9 GiB",), total=12)
    assert plan_hash("k", arguments, PLAN) == plan_hash("k", arguments, moved)
    for other in (replace(PLAN, warnings=("w",)), replace(PLAN, details=b"{}"), replace(PLAN, steps=("one",))):
        assert plan_hash("k", arguments, PLAN) != plan_hash("k", arguments, other)


def test_live_jobs_and_those_that_are_over_are_bounded(control: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "JOBS_LIVE_MAX", 2)
    monkeypatch.setattr(jobs, "JOBS_KEPT_MAX", 3)
    create(control, 1)
    stays = create(control, 2)
    with pytest.raises(Busy):
        control.send(creation(3))
    ended = []
    for number in range(10, 16):
        job = row(control, JobId(control.ask(ListJobs(limit=100)).jobs[-1].job)).job
        if job == stays:
            job = control.ask(ListJobs(limit=100)).jobs[0].job
        control.send(FinishJob(job=job, epoch=lease(control, job), state=JobState.DONE))
        ended.append(job)
        create(control, number)
    found = control.ask(ListJobs(over=True)).jobs
    assert [j.job for j in found if j.over] == ended[:-4:-1], "the newest of those that are over, newest first"
    assert stays in [j.job for j in found]


def test_list_pages_newest_first(control: Group) -> None:
    made = [create(control, number) for number in range(5)]
    first = control.ask(ListJobs(limit=2))
    assert ([j.job for j in first.jobs], first.more) == ([made[4], made[3]], True)
    rest = control.ask(ListJobs(limit=10, before=made[3]))
    assert ([j.job for j in rest.jobs], rest.more) == ([made[2], made[1], made[0]], False)
    assert control.ask(ListJobs(kind="other")).jobs == ()
    assert refusal(control, LeaseJob(job=JobId(99_999), node=HERE, lease_ms=1)) == "job.not_found"
    with pytest.raises(NotFound):
        control.send(AskJob(job=JobId(99_999), wish=JobWish.PAUSE))


def test_control_refuses_what_is_sent_under_another_lease(control: Group) -> None:
    job = create(control)
    epoch = lease(control, job)
    change = SetSetting(name="s", value="1")
    assert refusal(control, change, fence=Fence(job=job, epoch=epoch)) == ""
    second = lease(control, job)
    for stale in (Fence(job=job, epoch=epoch), Fence(job=job, epoch=second + 1), Fence(job=JobId(77), epoch=1)):
        assert refusal(control, SetSetting(name="s", value="2"), fence=stale) == "job.fenced"
    control.send(FinishJob(job=job, epoch=second, state=JobState.DONE))
    assert refusal(control, SetSetting(name="s", value="3"), fence=Fence(job=job, epoch=second)) == "job.fenced"
    assert control.ask(GetTopology()).setting("s") == "1"


def upload(number: int) -> CreateUpload:
    return CreateUpload(bucket="b", key="k", bucket_epoch=1, upload=f"{number:032x}")


def test_shard_refuses_a_lease_older_than_one_it_saw(shard: Group) -> None:
    job = JobId(5)
    assert refusal(shard, upload(1), fence=Fence(job=job, epoch=2)) == ""
    assert refusal(shard, upload(2), fence=Fence(job=job, epoch=1)) == "job.fenced"
    assert refusal(shard, upload(3), fence=Fence(job=job, epoch=2)) == ""
    assert refusal(shard, HoldFence(), fence=Fence(job=job, epoch=3)) == ""
    assert refusal(shard, upload(4), fence=Fence(job=job, epoch=2)) == "job.fenced"
    assert refusal(shard, upload(5), fence=Fence(job=JobId(6), epoch=1)) == "", "other jobs are not concerned"
    assert shard.ask(GetUsage(bucket="b")).buckets[0].uploads == 3


def test_shard_remembers_the_lease_also_when_it_refused_the_command_itself(shard: Group) -> None:
    job = JobId(5)
    wrong = DeleteObject(bucket="", key="k", bucket_epoch=1)
    assert refusal(shard, wrong, fence=Fence(job=job, epoch=2)) == "meta.bucket_name"
    assert refusal(shard, upload(1), fence=Fence(job=job, epoch=1)) == "job.fenced"


def test_late_runner_is_refused_also_after_its_job_was_swept(shard: Group) -> None:
    early, late, live = JobId(5), JobId(8), JobId(7)
    for job in (early, late, live):
        assert refusal(shard, HoldFence(), fence=Fence(job=job, epoch=4)) == ""
    swept = shard.send(SweepFences(over=(late,), below=live))
    assert swept.count == 1
    answer = shard.ask(GetFences())
    assert (answer.floor, [f.job for f in answer.fences]) == (live, [live])
    for job in (early, late, JobId(3)):
        assert refusal(shard, upload(1), fence=Fence(job=job, epoch=9)) == "job.fenced"
    assert refusal(shard, upload(2), fence=Fence(job=live, epoch=4)) == ""
    shard.send(SweepFences(over=(), below=JobId(1)))
    assert shard.ask(GetFences()).floor == live, "the floor never sinks"
    shard.send(SweepFences(over=(), below=JobId(9)))
    assert shard.sql("SELECT count(*) FROM fences") == [(0,)]


def test_fences_of_a_shard_are_bounded(shard: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fences, "FENCES_MAX", 2)
    for job in (1, 2):
        assert refusal(shard, HoldFence(), fence=Fence(job=JobId(job), epoch=1)) == ""
    assert refusal(shard, HoldFence(), fence=Fence(job=JobId(3), epoch=1)) == "job.fences"
    assert refusal(shard, HoldFence(), fence=Fence(job=JobId(2), epoch=5)) == ""
    shard.send(SweepFences(over=(), below=JobId(2)))
    assert refusal(shard, HoldFence(), fence=Fence(job=JobId(3), epoch=1)) == ""
