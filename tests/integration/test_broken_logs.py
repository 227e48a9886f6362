"""What a real daemon does when its Raft log is gone or can no longer be trusted."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dwctl.dev import cluster as dev
from dwctl.dev import processes
from dwctl.dev.layout import DevFolder, make_plan, write_config
from tests.power_loss.clients import BUCKET, clients
from tests.power_loss.machine import CLOCK, PowerCluster

pytestmark = pytest.mark.integration

FAILING_DAEMON = """
    import os, sys
    from pathlib import Path
    from dwd.base.errors import StorageFailed
    from dwd.config.load import load
    from dwd.node.disk import Disk
    from dwd.node.main import run_daemon
    from dwd.runtime.os_files import OsFile, OsFiles

    trigger = Path(sys.argv[2])
    plain = OsFile.sync

    def sync(file):
        if trigger.exists() and "/log/" in str(file._path):
            raise StorageFailed("storage.failed", f"EIO while syncing {file._path}", errno="EIO")
        plain(file)

    OsFile.sync = sync
    sys.exit(run_daemon(load(Path(sys.argv[1]), os.environ), Disk(files=OsFiles())))
"""


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """Preallocated segments are not kept."""
    yield tmp_path
    shutil.rmtree(tmp_path, ignore_errors=True)


def until(what: str, condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = CLOCK.monotonic() + seconds
    while not condition():
        assert CLOCK.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.1)


def test_the_node_ends_with_a_reason_when_a_sync_of_its_log_fails(root: Path) -> None:
    """It is never tried again: the kernel may have dropped the bytes."""
    folder = DevFolder(root=root / "cluster")
    folder.root.mkdir()
    plan = make_plan(folder, nodes=1, profile="auto")
    (node,) = plan.nodes
    folder.node(node.name).mkdir()
    write_config(folder, plan, node)
    dev.initialise(folder, plan, node, lambda _: None)
    trigger, config = root / "trigger", str(folder.config(node.name).resolve())
    command = [sys.executable, "-c", textwrap.dedent(FAILING_DAEMON), config, str(trigger)]
    with folder.log(node.name).open("wb") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until("the node to serve", lambda: dev.is_ready(node))
        trigger.touch()
        key = json.loads((folder.operator / "s3.json").read_text())
        (s3,) = clients({"endpoints": [f"http://{node.s3}"], **key})
        with pytest.raises(Exception):  # noqa: B017 - refused, or cut off by the end of the daemon
            s3.create_bucket(Bucket=BUCKET)
        assert daemon.wait(30) == 1
    finally:
        if daemon.poll() is None:
            daemon.send_signal(signal.SIGKILL)
            _ = daemon.wait(10)
    said = [json.loads(line) for line in folder.log(node.name).read_text().splitlines() if line.startswith("{")]
    (reason,) = [line for line in said if line["event"] == "this node must stop"]
    assert reason["level"] == "critical"
    assert "EIO while syncing" in reason["error"]


@pytest.mark.campaign
def test_the_node_comes_back_with_new_replicas_when_its_log_directory_is_gone(root: Path) -> None:
    cluster = PowerCluster(root, nodes=3, profile="replica-3")
    try:
        cluster.up()
        _ = cluster.start()
        s3 = clients(cluster.s3)
        s3[0].create_bucket(Bucket=BUCKET)
        s3[0].put_object(Bucket=BUCKET, Key="before", Body=b"1")
        lost = cluster.plan.nodes[2]
        before = replicas(cluster, lost.name)
        processes.signal_node(cluster.folder, lost.name, signal.SIGKILL)
        assert not processes.wait_gone(cluster.folder, [lost.name], 10)
        shutil.rmtree(cluster.folder.data(lost.name) / "log")
        s3[0].put_object(Bucket=BUCKET, Key="meanwhile", Body=b"2")
        _ = processes.start(cluster.folder, lost.name)
        old = {replica for replica, _ in before.values()}
        until("new voters", lambda: replaced(replicas(cluster, lost.name), old, count=len(before)))
        until("all to be well", lambda: status(cluster).get("health") == "healthy")
        for key, body in (("before", b"1"), ("meanwhile", b"2")):
            assert s3[2].get_object(Bucket=BUCKET, Key=key)["Body"].read() == body
    finally:
        cluster.down()


def status(cluster: PowerCluster) -> dict[str, Any]:
    command = [sys.executable, "-m", "dwctl.main", "cluster", "status", "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False,
        env={**os.environ, "DWCTL_CLUSTER": str(cluster.folder.cluster)},
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout) if done.returncode == 0 else {}
    return found


def replaced(found: dict[int, tuple[str, str]], old: set[str], *, count: int) -> bool:
    """Every group has a voter of another id there."""
    return len(found) == count and all(replica not in old and role == "voter" for replica, role in found.values())


def replicas(cluster: PowerCluster, name: str) -> dict[int, tuple[str, str]]:
    """By group: the node's replica and its role."""
    own = dev.node_id(cluster.folder, name)
    return {
        group["group"]: (member["replica"], member["role"])
        for group in status(cluster).get("groups", ())
        for member in group["members"]
        if member["node"] == own
    }
