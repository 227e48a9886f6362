"""A node that comes back with another disk than it left with: empty, old, torn, with flipped bits.

Always: no wrong byte is ever returned, nothing acknowledged is lost, and the node is made whole by itself.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.clients import SIZES, Anywhere, content, remove, verify
from tests.integration.harness import Cluster, empty, flip, until

BUCKET = "disks"
OBJECTS = 24


@pytest.fixture(scope="module")
def stored(six: Cluster) -> Iterator[dict[str, int]]:
    """Objects of every kind, written before any damage; key to size."""
    client = Anywhere(six)
    client.call(lambda s3: s3.create_bucket(Bucket=BUCKET))
    expected = {f"before/{n:03d}": SIZES[n % len(SIZES)] for n in range(OBJECTS)}
    write(six, expected)
    yield expected
    remove(client, BUCKET)


def write(cluster: Cluster, expected: dict[str, int]) -> None:
    client = Anywhere(cluster)
    for key, size in expected.items():
        client.put(BUCKET, key, content(key, size))


def more(cluster: Cluster, stored: dict[str, int], name: str) -> None:
    """Write a few more objects, which the test's node may miss."""
    added = {f"{name}/{n:02d}": SIZES[n % len(SIZES)] for n in range(6)}
    write(cluster, added)
    stored.update(added)


def voter(cluster: Cluster) -> str:
    """A node that votes in both groups and leads none."""
    found = cluster.status()
    names = {n["id"]: n["name"] for n in found["nodes"]}
    voting = [{m["node"] for m in g["members"] if m["role"] == "voter" and not m["leader"]} for g in found["groups"]]
    return names[min(set.intersection(*voting))]


def replica_of(cluster: Cluster, name: str, kind: str = "shard") -> str:
    found = cluster.status()
    node = next(n["id"] for n in found["nodes"] if n["name"] == name)
    group = next(g for g in found["groups"] if g["kind"] == kind)
    return str(next(m["replica"] for m in group["members"] if m["node"] == node))


def check(cluster: Cluster, stored: dict[str, int]) -> None:
    verify(cluster, BUCKET, stored)
    cluster.wait_healthy()
    cluster.wait_whole(pages=True)


def test_node_is_rebuilt_when_its_data_directory_is_empty(cluster: Cluster, stored: dict[str, int]) -> None:
    node = voter(cluster)
    replica, device = replica_of(cluster, node), json.loads((cluster.device(node) / "dwd-device.json").read_text())
    cluster.act("stop", node)
    empty(cluster.data(node))
    more(cluster, stored, "emptied")
    cluster.act("start", node)
    check(cluster, stored)
    assert replica_of(cluster, node) != replica, "it votes under the id whose votes it forgot"
    states = {d["id"]: d["state"] for d in cluster.status()["devices"]}
    assert states[device["device"]] == "lost"
    assert sorted(states.values()) == ["active"] * 6 + ["lost"]


@pytest.mark.campaign
def test_node_catches_up_when_its_data_directory_is_an_old_copy(
    cluster: Cluster, stored: dict[str, int], tmp_path: Path
) -> None:
    """The copy lacks log entries and fragments that the node acknowledged after it was made."""
    node = voter(cluster)
    cluster.act("stop", node)
    copy = tmp_path / "copy"
    shutil.copytree(cluster.data(node), copy)
    cluster.act("start", node)
    cluster.wait_healthy()
    more(cluster, stored, "after-the-copy")
    cluster.act("stop", node)
    empty(cluster.data(node))
    shutil.copytree(copy, cluster.data(node), dirs_exist_ok=True)
    with cluster.logged(node) as said:
        cluster.act("start", node)
        until("the node says that its data is old", lambda: "older copy" in said())
        check(cluster, stored)


def segments(cluster: Cluster, node: str) -> list[Path]:
    return sorted((cluster.data(node) / "log").glob("*.log"))


def used_bytes(path: Path) -> int:
    """Up to the last byte that is not zero: segments and volumes are preallocated."""
    return len(path.read_bytes().rstrip(b"\0"))


@pytest.mark.campaign
def test_node_goes_on_when_the_last_batch_of_its_log_is_torn(cluster: Cluster, stored: dict[str, int]) -> None:
    node = voter(cluster)
    cluster.act("kill", node)
    log = segments(cluster, node)[-1]
    flip(log, used_bytes(log) - 5, length=4)
    more(cluster, stored, "torn")
    with cluster.logged(node) as said:
        cluster.act("start", node)
        until("the tear is said aloud", lambda: "log damaged" in said())
        check(cluster, stored)


@pytest.mark.campaign
def test_replica_is_seeded_anew_when_bits_flip_inside_its_log(cluster: Cluster, stored: dict[str, int]) -> None:
    node = voter(cluster)
    replicas = {replica_of(cluster, node, kind) for kind in ("control", "shard")}
    more(cluster, stored, "rot")
    cluster.act("stop", node)
    log = segments(cluster, node)[-1]
    content_at = used_bytes(log) // 3
    flip(log, next(n for n, byte in enumerate(log.read_bytes()) if n > content_at and byte))  # batches are padded
    with cluster.logged(node) as said:
        cluster.act("start", node)
        until("the damage is said aloud", lambda: "log damaged" in said())
        check(cluster, stored)
    assert {replica_of(cluster, node, kind) for kind in ("control", "shard")} != replicas


@pytest.mark.campaign
@pytest.mark.parametrize("group", [0, 1])
def test_replica_is_seeded_anew_when_its_database_is_damaged(
    cluster: Cluster, stored: dict[str, int], group: int
) -> None:
    node = voter(cluster)
    kind = "shard" if group else "control"
    replica = replica_of(cluster, node, kind)
    cluster.act("stop", node)
    folder = cluster.data(node) / "groups" / f"group-{group:016x}"
    database = folder / (folder / "CURRENT").read_text().strip() / "state.db"
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    pages = database.stat().st_size // 4096
    for page in range(1, pages):
        flip(database, page * 4096, length=64)
    with cluster.logged(node) as said:
        cluster.act("start", node)
        until("the damage is said aloud", lambda: "group cannot serve" in said() or "damaged" in said())
        check(cluster, stored)
    assert replica_of(cluster, node, kind) != replica


@pytest.mark.campaign
def test_fragments_are_rebuilt_when_bits_flip_in_a_volume(cluster: Cluster, stored: dict[str, int]) -> None:
    """Reads go round what is bad; a recount of all pages finds what nobody read, and hands it to repair."""
    node = voter(cluster)
    cluster.act("stop", node)
    for volume in sorted((cluster.device(node) / "volumes").iterdir()):
        for offset in range(8192, used_bytes(volume), 64 * 1024):
            flip(volume, offset, length=16)
    cluster.act("start", node)
    verify(cluster, BUCKET, stored)
    assert cluster.recount(pages=True)["fragments_bad"], "nothing was damaged"
    check(cluster, stored)


@pytest.mark.campaign
def test_index_is_made_anew_when_the_fragment_index_is_damaged(cluster: Cluster, stored: dict[str, int]) -> None:
    node = voter(cluster)
    cluster.act("stop", node)
    index = cluster.device(node) / "index.sqlite"
    with sqlite3.connect(index) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    for page in range(index.stat().st_size // 4096):
        flip(index, page * 4096 + 100 * (page == 0), length=64)
    with cluster.logged(node) as said:
        cluster.act("start", node)
        until("the damage is said aloud", lambda: "index is damaged" in said())
        check(cluster, stored)


@pytest.mark.campaign
def test_fragments_are_rebuilt_when_a_device_loses_volumes_and_index(cluster: Cluster, stored: dict[str, int]) -> None:
    """Nothing is read in between: the loss itself has to be noticed."""
    node = voter(cluster)
    cluster.act("stop", node)
    empty(cluster.device(node) / "volumes")
    for left in cluster.device(node).glob("index.sqlite*"):
        left.unlink()
    cluster.act("start", node)
    check(cluster, stored)


@pytest.mark.campaign
def test_device_stays_out_when_its_directory_is_gone(cluster: Cluster, stored: dict[str, int], tmp_path: Path) -> None:
    """As when a disk is not mounted: nothing is written to the place, the node serves on, the device comes back."""
    node = voter(cluster)
    cluster.act("stop", node)
    shutil.move(cluster.device(node), tmp_path / "away")
    with cluster.logged(node) as said:
        cluster.act("start", node)
        until("it is said aloud", lambda: "device out of service" in said())
        until("the cluster knows", lambda: any(d["state"] == "failed" for d in cluster.status()["devices"]))
        assert not cluster.device(node).exists()
        more(cluster, stored, "without-a-device")
        verify(cluster, BUCKET, stored)
    cluster.act("stop", node)
    shutil.move(tmp_path / "away", cluster.device(node))
    cluster.act("start", node)
    check(cluster, stored)
