"""Jobs on real daemons: a node that dies is replaced where it was; operators steer, and are told what is waited for."""

from __future__ import annotations

import os
import re
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.integration.clients import Anywhere, bucket, content
from tests.integration.harness import Cluster, until

TRIES = 4
LOOKS, LOOK_SECONDS = 12_000, 0.005
TAKEN = re.compile(rb'"job":"(j[0-9]+)"[^\n]*"job taken"')


def begun(cluster: Cluster) -> str:
    """A job that counts fragments, as its id."""
    ran = cluster.dwctl("job", "start", "cluster.verify", "pages=no", "--no-wait", "--yes")
    assert ran.code == 6, ran
    return str(ran.json["job"])


def shown(cluster: Cluster, job: str) -> dict[str, Any]:
    found: dict[str, Any] = cluster.dwctl("job", "show", job).good().json
    return found


def killed_while_it_ran(cluster: Cluster) -> tuple[str, str]:
    """A job, and the node that took it: killed within milliseconds of that, as its log says it."""
    logs = {name: cluster.root / name / "dwd.log" for name in cluster.names}
    ends = {name: path.stat().st_size for name, path in logs.items()}
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(cluster.dwctl, "job", "start", "cluster.verify", "--no-wait", "--yes")
        for _ in range(LOOKS):
            for name, path in logs.items():
                with path.open("rb") as file:
                    file.seek(ends[name])
                    taken = TAKEN.search(file.read())
                if taken is not None:
                    os.kill(int((cluster.root / name / "dwd.pid").read_text()), signal.SIGKILL)
                    return taken[1].decode(), name
            time.sleep(LOOK_SECONDS)
        raise AssertionError(f"no node took the job: {starting.result()}")


def test_job_goes_on_elsewhere_when_the_node_that_runs_it_is_killed(cluster: Cluster) -> None:
    with bucket(cluster, "jobs") as name:
        body = content("jobs", 3_000_000)
        Anywhere(cluster).call(lambda s3: s3.put_object(Bucket=name, Key="k", Body=body))
        for _ in range(TRIES):
            job, runner = killed_while_it_ran(cluster)
            try:
                ended = until("the job is over", lambda job=job: (f := shown(cluster, job))["over"] and f)
                assert ended["state"] == "done", ended
                assert f"job {job}: " in cluster.dwctl("why", job, json_out=False).good().out
            finally:
                cluster.act("start", runner)
            if ended["attempts"] > 1:  # else it was over before the kill
                return
            cluster.wait_healthy()
        raise AssertionError("every job was over before its runner was killed")


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
