"""Nodes leave and are replaced on real daemons while clients read and write; every byte is checked afterwards."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.clients import Load, bucket, client_at, content
from tests.integration.harness import Cluster, Ran, until
from tests.integration.install import Node

SAFETY, CONFLICT = 4, 8
WRITTEN = 6
START_SECONDS = 180
"""For a daemon to be ready on a loaded machine."""


def node_job(cluster: Cluster, *arguments: str) -> Ran:
    return cluster.dwctl("node", *arguments, "--yes")


def standing(cluster: Cluster) -> dict[str, str]:
    return {n["name"]: n["standing"] for n in cluster.status()["nodes"]}


def members(cluster: Cluster) -> set[str]:
    found = cluster.status()
    names = {n["id"]: n["name"] for n in found["nodes"]}
    return {names.get(m["node"], m["node"]) for g in found["groups"] for m in g["members"]}


def end(cluster: Cluster, name: str) -> bool:
    """Whether the node's daemon is gone."""
    found = cluster.dwctl("dev", "status", "--dir", str(cluster.root)).json
    return any(n["name"] == name and n["state"] == "stopped" for n in found["nodes"])


def test_a_node_is_drained_and_removed_while_clients_read_and_write(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(4, profile="replica-3")
    with bucket(cluster, "leaving") as name:
        with Load(cluster, name) as load:
            until("objects are written", load.more(WRITTEN), seconds=120)
            done = node_job(cluster, "drain", "n4").good().json
            assert done["state"] == "done"
            assert standing(cluster)["n4"] == "drained"
            key = next(iter(load.acknowledged))
            s3 = client_at(cluster.document["s3"], f"http://{cluster.node('n4')['s3']}")
            body = s3.get_object(Bucket=name, Key=key)["Body"].read()
            assert body == content(key, load.acknowledged[key]), "a drained node serves clients on"
            node_job(cluster, "remove", "n4").good()
            until("writes go on", load.more(3), seconds=60)
        assert "n4" not in standing(cluster)
        until("no group knows n4", lambda: members(cluster) == {"n1", "n2", "n3"})
        load.check()
        refused = node_job(cluster, "drain", "n3")
        assert refused.code == SAFETY, refused
        assert "--force" in refused.err
        until("n4 ends by itself", lambda: end(cluster, "n4"))
        assert "was removed from its cluster" in cluster.log("n4")
        again = cluster.dwctl("dev", "start", "n4", "--dir", str(cluster.root))
        assert again.code != 0
        assert "was removed from its cluster" in cluster.log("n4").splitlines()[-1] + again.err


@pytest.mark.campaign
def test_a_dead_node_is_replaced_by_a_new_one(make_cluster: Callable[..., Cluster], tmp_path: Path) -> None:
    cluster = make_cluster(5, profile="replica-3")
    with bucket(cluster, "replaced") as name, Load(cluster, name) as load:
        until("objects are written", load.more(2 * WRITTEN), seconds=120)
        token = cluster.dwctl("node", "join-token").good().json["token"]
        fresh = Node(tmp_path / "fresh", "fresh")
        fresh.dwd("join", "-", "--json", stdin=token + "\n").good()
        with fresh.daemon() as daemon:
            fresh.wait_ready(daemon)
            until("its device is there", lambda: sum(d["state"] == "active" for d in cluster.status()["devices"]) == 6)
            cluster.act("kill", "n5")
            until("n5 is down", lambda: state_of(cluster, "n5") == "down", seconds=60)
            node_job(cluster, "replace", "n5", "fresh").good()
            until("writes go on", load.more(5), seconds=60)
            assert "n5" not in standing(cluster)
            cluster.wait_whole()
            back = cluster.dwctl("dev", "start", "n5", "--dir", str(cluster.root))
            until("n5 learns that it was removed", lambda: "was removed from its cluster" in cluster.log("n5"))
            assert back.code != 0 or until("n5 ends", lambda: end(cluster, "n5"))
            load.__exit__()
            load.check()


def state_of(cluster: Cluster, name: str) -> str:
    return next(n["state"] for n in cluster.status()["nodes"] if n["name"] == name)


@pytest.mark.campaign
def test_several_nodes_are_drained_one_after_another_under_load(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(6, profile="replica-2")
    with bucket(cluster, "several") as name:
        with Load(cluster, name, threads=4) as load:
            until("objects are written", load.more(3 * WRITTEN), seconds=120)
            node_job(cluster, "drain", "n6", "--force").good()
            node_job(cluster, "drain", "n5", "--force").good()
            node_job(cluster, "undrain", "n6").good()
            node_job(cluster, "drain", "n4", "--force").good()
            node_job(cluster, "remove", "n5").good()
            until("writes go on", load.more(10), seconds=60)
        assert standing(cluster) == {
            "n1": "active", "n2": "active", "n3": "active", "n4": "drained", "n6": "active"
        }  # fmt: skip
        cluster.wait_whole()
        load.check()


@pytest.mark.campaign
def test_the_last_node_stops_soon_when_the_quorum_is_gone_and_clients_wait(
    make_cluster: Callable[..., Cluster],
) -> None:
    cluster = make_cluster(3, profile="replica-2")
    with bucket(cluster, "stopping") as name:
        s3 = client_at(cluster.document["s3"], f"http://{cluster.node('n1')['s3']}", read_seconds=60)
        s3.put_object(Bucket=name, Key="k", Body=b"x")
        cluster.act("stop", "n3", "n2")
        waiting = [threading.Thread(target=_try_to_put, args=(s3, name), daemon=True) for _ in range(2)]
        for thread in waiting:
            thread.start()
        until("a client waits", lambda: all(thread.is_alive() for thread in waiting))
        pid = int((cluster.root / "n1" / "dwd.pid").read_text())
        seconds = _seconds_to_stop(pid)
        cluster.start_all(["n1", "n2", "n3"])
        cluster.wait_healthy()
        assert seconds < 5.0, "about 2 s; the machine may be loaded"


def _try_to_put(s3: Any, name: str) -> None:
    try:
        s3.put_object(Bucket=name, Key="waits", Body=b"x")
    except Exception:  # noqa: BLE001 - whatever it is told
        return


def _seconds_to_stop(pid: int) -> float:
    code = (
        "import os, signal, sys, time\npid = int(sys.argv[1])\nbegan = time.monotonic()\nos.kill(pid, signal.SIGTERM)\n"
        "while os.path.exists(f'/proc/{pid}'):\n    time.sleep(0.02)\nprint(time.monotonic() - began)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(pid)], capture_output=True, text=True, check=True, timeout=60
    )
    return float(done.stdout)
