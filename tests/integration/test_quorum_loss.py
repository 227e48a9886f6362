"""A majority of the nodes destroyed: survivors go on with what they hold, and nobody's old data returns."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from tests.integration.clients import Anywhere, client_at
from tests.integration.harness import COMMAND_SECONDS, Cluster, empty, until

BUCKET = "survivors"
SETTLED = 8
RUNNING = 10


@contextmanager
def writing(cluster: Cluster) -> Iterator[list[str]]:
    """One client puts small objects, one after another, until a put fails; the keys acknowledged, in order."""
    acknowledged: list[str] = []
    over = threading.Event()

    def work() -> None:
        s3 = cluster.document["s3"]
        client = client_at(s3, s3["endpoints"][0], read_seconds=3.0)
        while not over.is_set():
            key = f"run/{len(acknowledged):05}"
            try:
                client.put_object(Bucket=BUCKET, Key=key, Body=key.encode())
            except Exception:  # noqa: BLE001 - the quorum is gone: that is how it ends
                return
            acknowledged.append(key)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield acknowledged
    finally:
        over.set()
        thread.join()


def groups(cluster: Cluster) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cluster.dwctl("raft", "status").good().json["groups"]
    return found


def everywhere_applied(cluster: Cluster) -> bool:
    """Whether every member has applied all that its group committed."""
    return all(
        member["own"] is not None and member["own"]["applied_index"] >= group["commit_index"]
        for group in groups(cluster)
        for member in group["members"]
    )


def kill_at_once(cluster: Cluster, names: Sequence[str]) -> None:
    for name in names:
        os.kill(int((cluster.root / name / "dwd.pid").read_text()), signal.SIGKILL)


def plan(cluster: Cluster) -> dict[str, Any]:
    """Once the survivors know that nobody leads them."""

    def look() -> dict[str, Any] | None:
        ran = cluster.dwctl("cluster", "recover", "plan")
        if ran.code == 4:
            return None
        found: dict[str, Any] = ran.good().json
        return found if len(found["groups"]) == 2 else None

    return until("both groups are without a quorum", look)


def apply(cluster: Cluster, plan_hash: str) -> Any:
    return cluster.dwctl("cluster", "recover", "apply", "--hash", plan_hash, "--yes")


def check_kept(cluster: Cluster, settled: Sequence[str], running: Sequence[str]) -> None:
    """All that was settled is there; of what was under way the first so many, none from between; new writes work."""
    client = Anywhere(cluster)

    def keys() -> set[str]:
        listed = client.call(lambda s3: s3.list_objects_v2(Bucket=BUCKET, MaxKeys=1000))
        return {entry["Key"] for entry in listed.get("Contents", [])}

    found = until("the survivors answer", keys)
    assert found.issuperset(settled), sorted(set(settled) - found)
    present = [key in found for key in running]
    assert present == sorted(present, reverse=True), "an earlier acknowledged write is gone, a later one is not"
    for key in settled:
        assert client.get(BUCKET, key) == key.encode()
    client.put(BUCKET, "afterwards", b"new")
    assert client.get(BUCKET, "afterwards") == b"new"


def lose(cluster: Cluster, victims: Sequence[str]) -> tuple[list[str], list[str]]:
    """Write, destroy the victims while writes go on; keys that every member had, and keys under way."""
    client = Anywhere(cluster)
    client.call(lambda s3: s3.create_bucket(Bucket=BUCKET))
    settled = [f"settled/{number}" for number in range(SETTLED)]
    for key in settled:
        client.put(BUCKET, key, key.encode())
    until("all members have applied them", lambda: everywhere_applied(cluster))
    with writing(cluster) as running:
        until("writes are going on", lambda: len(running) >= RUNNING)
        kill_at_once(cluster, victims)
    return settled, running


def voters(cluster: Cluster, wanted: int) -> Callable[[], bool]:
    def look() -> bool:
        return all(
            sum(m["role"] == "voter" and m["state"] in {"leader", "replicate"} for m in group["members"]) == wanted
            for group in groups(cluster)
        )

    return look


def start_fenced(cluster: Cluster, name: str) -> None:
    """It does not serve, and says why and what to do."""
    with cluster.logged(name) as said:
        process = cluster.launch(name)
        process.communicate(timeout=COMMAND_SECONDS)
        assert process.returncode != 0
        assert "node.fenced" in said()
        assert "empty" in said()


def test_survivor_of_three_goes_on_when_two_are_destroyed(make_cluster: Callable[..., Cluster]) -> None:
    cluster = make_cluster(3)
    assert cluster.dwctl("cluster", "recover", "plan").code == 4, "nothing is given up while a quorum lives"
    settled, running = lose(cluster, ("n2", "n3"))
    found = plan(cluster)
    assert [group["losses_possible"] for group in found["groups"]] == [True, True]
    assert sorted(node["name"] for node in found["gone"]) == ["n2", "n3"]
    assert apply(cluster, "0" * 32).code == 8
    assert apply(cluster, found["hash"]).good().json["finished"]
    check_kept(cluster, settled, running)
    start_fenced(cluster, "n2")
    empty(cluster.data("n2"))
    cluster.act("start", "n2")
    until("the wiped node votes again", voters(cluster, 2))
    check_kept(cluster, settled, running)
    (record,) = cluster.dwctl("cluster", "recover", "history").good().json["recoveries"]
    assert (record["plan"], record["groups"]) == (found["hash"], 2)


@pytest.mark.campaign
def test_survivors_of_five_go_on_when_three_are_destroyed_and_the_recovery_is_cut_off(
    make_cluster: Callable[..., Cluster],
) -> None:
    cluster = make_cluster(5)
    victims = ("n2", "n3", "n5")
    settled, running = lose(cluster, victims)
    found = plan(cluster)
    assert sorted(node["name"] for node in found["nodes"]) == ["n1", "n4"]
    for _ in range(3):
        cut_off(cluster, found["hash"])
    assert apply(cluster, found["hash"]).good().json["finished"]
    assert apply(cluster, found["hash"]).good().json["finished"], "it may be made again"
    check_kept(cluster, settled, running)
    for name in victims:
        start_fenced(cluster, name)
        empty(cluster.data(name))
    cluster.start_all(victims)
    until("five vote again", voters(cluster, 5), seconds=120)
    check_kept(cluster, settled, running)
    assert cluster.dwctl("cluster", "recover", "plan").code == 4


def cut_off(cluster: Cluster, plan_hash: str) -> None:
    """Kill `apply` at the first thing it says."""
    command = [sys.executable, "-m", "dwctl.main", "cluster", "recover", "apply", "--hash", plan_hash, "--yes"]
    process = subprocess.Popen(command, env={**os.environ, **cluster.env}, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    process.stderr.readline()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=COMMAND_SECONDS)
