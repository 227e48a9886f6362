"""A node loses everything it stored, and the cluster makes it good by itself; the ledger says how."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.integration.clients import bucket
from tests.integration.harness import Cluster, until

OBJECTS = 4
BYTES = 1_500_000


@pytest.mark.campaign
def test_all_is_redundant_again_and_explained_when_a_node_lost_its_devices(cluster: Cluster) -> None:
    with bucket(cluster, "healed") as name:
        contents = {f"o{n}": os.urandom(BYTES) for n in range(OBJECTS)}
        for key, content in contents.items():
            put(cluster, name, key, content)
        victim = next(n for n in cluster.names if n != cluster.leader("shard"))
        cluster.act("stop", victim)
        shutil.rmtree(cluster.device(victim))
        cluster.device(victim).mkdir()
        cluster.act("start", victim)

        def healed() -> list[dict[str, object]]:
            found = cluster.dwctl("heal", "list", "--state", "done", "--bucket", name).json["repairs"]
            return [repair for repair in found if repair["written"]]

        until("the ledger names repairs", healed)
        cluster.wait_whole(pages=True)
        status = cluster.dwctl("heal", "status").json
        assert (status["degraded"], status["todo_bytes"], status["violated"]) == (0, 0, False)
        assert {node["state"] for node in status["nodes"]} == {"up"}
        repaired = healed()
        assert {repair["cause"] for repair in repaired} <= {"dead", "missing", "loan", "rebalance"}
        assert all(repair["read_bytes"] and repair["written_bytes"] for repair in repaired)
        for key, content in contents.items():
            assert get(cluster, name, key) == content


def put(cluster: Cluster, name: str, key: str, content: bytes) -> None:
    source = cluster.data(cluster.names[0]).parent / "upload"
    source.write_bytes(content)
    cluster.dwctl("object", "put", name, key, str(source)).good()


def get(cluster: Cluster, name: str, key: str) -> bytes:
    target = cluster.data(cluster.names[0]).parent / f"download-{key}"
    cluster.dwctl("object", "get", name, key, str(target)).good()
    found = target.read_bytes()
    target.unlink()
    return found
