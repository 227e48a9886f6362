"""A row of a real replica's database is not what was written: found, judged by the majority, mended without anybody."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness import Cluster, until

pytestmark = pytest.mark.campaign

SHARD = 1
FLIPPED = "00000000000000000000000000000000"
MEND_SECONDS = 60.0


def database(cluster: Cluster, name: str) -> Path:
    folder = cluster.data(name) / "groups" / f"group-{SHARD:016x}"
    return folder / (folder / "CURRENT").read_text().strip() / "state.db"


def etags(cluster: Cluster, name: str) -> set[str]:
    connection = sqlite3.connect(f"file:{database(cluster, name)}?mode=ro", uri=True, timeout=10)
    try:
        return {row[0] for row in connection.execute("SELECT etag FROM objects")}
    finally:
        connection.close()


def flip_row(cluster: Cluster, name: str) -> None:
    connection = sqlite3.connect(database(cluster, name), timeout=10)
    with connection:
        changed = connection.execute("UPDATE objects SET etag = ? WHERE key = ?", (FLIPPED, b"k1")).rowcount
    connection.close()
    assert changed == 1
    assert FLIPPED in etags(cluster, name)


def replica(cluster: Cluster, name: str) -> dict[str, Any]:
    """As `dwctl raft status` tells of the node's replica of the shard."""
    found = cluster.dwctl("raft", "status", str(SHARD)).good().json
    node = next(n["id"] for n in found["nodes"] if n["name"] == name)
    (group,) = found["groups"]
    member: dict[str, Any] = next(m for m in group["members"] if m["node"] == node)
    return member


def scan(cluster: Cluster, name: str) -> None:
    """Now: an operator's pause and resume."""
    for turn in ("--pause", "--resume"):
        cluster.dwctl("worker", "set", "meta.scan", turn, "--node", name).good()


def mended(cluster: Cluster, name: str, tells: Callable[[], str]) -> None:
    def look() -> bool:
        assert FLIPPED not in etags(cluster, name)
        assert replica(cluster, name)["own"]["quarantined"] == ""
        return "out of quarantine" in tells()

    until(f"{name} to be re-seeded", look, seconds=MEND_SECONDS)
    assert "a scan found other rows than were written" in tells()
    assert "replica is quarantined" in tells()


def test_flipped_row_is_found_and_mended_when_it_is_a_followers_or_the_leaders(
    make_cluster: Callable[..., Cluster], tmp_path: Path
) -> None:
    cluster = make_cluster(3)
    cluster.wait_healthy()
    cluster.dwctl("bucket", "create", "rows").good()
    body = tmp_path / "body"
    body.write_bytes(b"x" * 100)
    for number in range(4):
        cluster.dwctl("object", "put", "rows", f"k{number}", str(body)).good()
    leader = cluster.leader()
    follower = next(name for name in cluster.names if name != leader)
    before = replica(cluster, follower)["replica"]

    cluster.act("stop", follower)
    flip_row(cluster, follower)
    with cluster.logged(follower) as tells:
        cluster.act("start", follower)  # what it does first is scan
        mended(cluster, follower, tells)
    assert replica(cluster, follower)["replica"] == before, "the same replica, with its vote"

    leader = cluster.leader()
    with cluster.logged(leader) as tells:
        flip_row(cluster, leader)
        scan(cluster, leader)
        mended(cluster, leader, tells)
    assert cluster.leader() != leader, "who is in the minority does not lead"
    cluster.wait_healthy()
    hashes = {replica(cluster, name)["own"]["state_hash"] for name in cluster.names}
    assert len(hashes) == 1
    assert hashes != {""}
    assert cluster.dwctl("object", "get", "rows", "k1", str(tmp_path / "back")).code == 0
    assert (tmp_path / "back").read_bytes() == b"x" * 100
