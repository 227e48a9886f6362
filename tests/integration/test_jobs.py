"""Jobs on real daemons: a node that dies is replaced where it was; operators steer, and are told what is waited for."""

from __future__ import annotations

import os
import signal
from typing import Any

from tests.integration.clients import Anywhere, bucket, content
from tests.integration.harness import Cluster, until

TRIES = 4


def send(cluster: Cluster, name: str, what: signal.Signals) -> None:
    """At once: a command would take a second, and the cluster gives a silent node up in five."""
    os.kill(int((cluster.root / name / "dwd.pid").read_text()), what)


def begun(cluster: Cluster) -> str:
    """A job that counts fragments, as its id."""
    ran = cluster.dwctl("job", "start", "cluster.verify", "pages=no", "--no-wait", "--yes")
    assert ran.code == 6, ran
    return str(ran.json["job"])


def shown(cluster: Cluster, job: str) -> dict[str, Any]:
    found: dict[str, Any] = cluster.dwctl("job", "show", job).good().json
    return found


def taken_by(cluster: Cluster, job: str) -> str:
    """Who runs it, from the daemons' logs: a command would come too late."""

    def look() -> str:
        lines = ((name, line) for name in cluster.names for line in cluster.log(name).splitlines())
        return next((name for name, line in lines if f'"job":"{job}"' in line and '"job taken"' in line), "")

    return until("a node runs the job", look)


def killed_while_it_ran(cluster: Cluster, silent: str) -> tuple[str, str]:
    """A job, and the node that ran it, killed while it waited for an answer of `silent`, which stands still."""
    for _ in range(TRIES):
        send(cluster, silent, signal.SIGSTOP)
        job = begun(cluster)
        runner = taken_by(cluster, job)
        if runner != silent and '"job ended"' not in cluster.log(runner).rpartition(f'"job":"{job}"')[2]:
            send(cluster, runner, signal.SIGKILL)
            return job, runner
        send(cluster, silent, signal.SIGCONT)
        cluster.wait_healthy()
    raise AssertionError("every job was over before its runner could be killed")


def test_job_goes_on_elsewhere_when_the_node_that_runs_it_is_killed(cluster: Cluster) -> None:
    silent = "n6"
    with bucket(cluster, "jobs") as name:
        body = content("jobs", 3_000_000)
        Anywhere(cluster).call(lambda s3: s3.put_object(Bucket=name, Key="k", Body=body))
        job, runner = killed_while_it_ran(cluster, silent)
        try:
            assert cluster.dwctl("why", job).good().json["what"] == "job"
            ended = until("the job is over", lambda: (f := shown(cluster, job))["over"] and f, seconds=60)
            assert (ended["state"], ended["attempts"] >= 2) == ("done", True), ended
        finally:
            send(cluster, silent, signal.SIGCONT)
            cluster.act("start", runner)


def test_operators_pause_resume_cancel_and_list_jobs(cluster: Cluster) -> None:
    job = begun(cluster)
    until("it is over", lambda: shown(cluster, job)["over"])
    for verb in ("pause", "resume", "cancel"):
        assert cluster.dwctl("job", verb, job, *(("--yes",) if verb == "cancel" else ())).code == 8
    assert cluster.dwctl("job", "show", "j999999").code == 3
    assert cluster.dwctl("job", "start", "no.such.kind").code == 3
    assert job in [j["job"] for j in cluster.dwctl("job", "list", "--all").good().json["jobs"]]
    told = cluster.dwctl("why", job, json_out=False).good().out
    assert f"job {job}: cluster.verify is done" in told
    dry = cluster.dwctl("job", "start", "cluster.verify", "--dry-run").good().json
    assert (dry["steps"], len(dry["hash"])) == (["count"], 64)
