"""A node that was away while the others cut their logs: it catches up by the pages it lacks, while writes go on."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.integration.clients import Anywhere, bucket, content
from tests.integration.harness import Cluster, until

SHARD = 1
BODY_BYTES = 8_000
"""Inline: the database grows by it."""
BEFORE, AWAY = 400, 20


def write(cluster: Cluster, name: str, first: int, count: int) -> None:
    clients = [Anywhere(cluster, 0) for _ in range(8)]

    def put(worker: int) -> None:
        for number in range(first + worker, first + count, len(clients)):
            clients[worker].put(name, f"k{number:05d}", content(f"k{number:05d}", BODY_BYTES))

    with ThreadPoolExecutor(len(clients)) as pool:
        list(pool.map(put, range(len(clients))))


def members(cluster: Cluster) -> list[str]:
    """Nodes with a replica of the shard."""
    names = {n["id"]: n["name"] for n in cluster.document["nodes"]}
    (group,) = cluster.dwctl("raft", "status", str(SHARD)).good().json["groups"]
    return [names[m["node"]] for m in group["members"]]


def received(log: Callable[[], str]) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in log().splitlines() if '"snapshot received"' in line]
    return [line for line in found if line["group"] == SHARD]


def test_a_node_gets_only_the_pages_it_lacks_when_it_was_away_past_compaction(cluster: Cluster) -> None:
    leader, here = cluster.leader("shard"), members(cluster)
    away = next(name for name in reversed(here) if name not in {leader, cluster.names[0]})
    with bucket(cluster, "snapshots") as name:
        write(cluster, name, 0, BEFORE)
        cluster.wait_healthy()
        cluster.act("stop", away)
        write(cluster, name, BEFORE, AWAY)
        for node in here:
            if node != away:
                (cut,) = cluster.dwctl("raft", "compact", str(SHARD), "--node", node).good().json["nodes"]
                assert cut["entries_removed"] > 0, cut
        with cluster.logged(away) as log:
            cluster.act("start", away)
            write(cluster, name, BEFORE + AWAY, AWAY)
            (done, *_) = until("it received a snapshot", lambda: received(log))
        cluster.wait_healthy()
        assert done["bytes_reused"] > 0.8 * done["bytes_total"] > 0.8 * BODY_BYTES * BEFORE, done
        for number in (0, BEFORE, BEFORE + AWAY, BEFORE + 2 * AWAY - 1):
            key = f"k{number:05d}"
            assert Anywhere(cluster, cluster.names.index(away)).get(name, key) == content(key, BODY_BYTES)
