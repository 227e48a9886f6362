"""Copies of databases that are being written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import apsw
import pytest

from dwd.base.errors import Corrupt, NoSpace
from dwd.meta.core.shard.commands import PutObject
from dwd.meta.store import copying, database
from dwd.raft.snapshots.pages import HASH_BYTES, hash_pages
from tests.twins.meta_group import Group


def put(group: Group, first: int, count: int) -> None:
    for number in range(first, first + count):
        group.send(PutObject(bucket="b", key=f"k{number:06d}", bucket_epoch=1, size=1, etag="e", inline=b"x" * 3000))


def between_steps(monkeypatch: pytest.MonkeyPatch, work: Callable[[], None]) -> None:
    """Do `work` once the copy's transaction has begun, and copy page by page."""
    monkeypatch.setattr(copying, "PAGES_A_STEP", 1)
    monkeypatch.setattr(copying, "_require_space", lambda directory, size: work())


def keys(path: Path) -> int:
    connection = database.connect(path, vfs="")
    try:
        assert next(connection.execute("PRAGMA integrity_check"))[0] == "ok"
        return int(next(connection.execute("SELECT count(*) FROM objects"))[0])
    finally:
        connection.close()


def test_copy_is_of_one_instant_when_the_group_goes_on_applying(
    shard: Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(shard, 0, 50)
    before = shard.machine.position()
    between_steps(monkeypatch, lambda: put(shard, 50, 50))
    meta = shard.machine.copy_snapshot(tmp_path / "copy")
    assert meta == before
    assert shard.machine.position().index == before.index + 50
    assert keys(tmp_path / "copy") == 50


def test_checkpoints_move_the_wal_again_when_the_copy_is_done(
    shard: Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int | None] = []

    def more() -> None:
        put(shard, 10, 10)
        held.append(shard.machine.checkpoint())

    put(shard, 0, 10)
    between_steps(monkeypatch, more)
    shard.machine.copy_snapshot(tmp_path / "copy")
    assert held == [None], "the copy's transaction pins the WAL"
    assert shard.machine.checkpoint() == shard.machine.position().index


def test_copy_is_of_the_new_generation_when_a_snapshot_took_the_place_of_the_old_one(
    shard: Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(shard, 0, 5)
    meta = shard.machine.copy_snapshot(tmp_path / "other")
    path, real = shard.machine.live.path, copying.copy_database

    def copy(source: Path, target: Path, *, vfs: str) -> object:
        if source == path:
            shard.machine.install_snapshot(tmp_path / "other", meta)
        return real(source, target, vfs=vfs)

    monkeypatch.setattr("dwd.meta.store.machine.copy_database", copy)
    assert shard.machine.copy_snapshot(tmp_path / "copy") == meta
    assert keys(tmp_path / "copy") == 5


def test_corrupt_when_the_database_to_copy_is_damaged(shard: Group, tmp_path: Path) -> None:
    put(shard, 0, 5)
    assert shard.machine.checkpoint() is not None
    path = shard.machine.live.path
    content = bytearray(path.read_bytes())
    content[:100] = b"x" * 100
    shard.close()
    path.write_bytes(content)
    with pytest.raises((Corrupt, apsw.NotADBError)):
        copying.copy_database(path, tmp_path / "copy", vfs="")


def test_no_space_when_the_copy_would_not_fit(shard: Group, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(shard, 0, 5)
    monkeypatch.setattr(copying.shutil, "disk_usage", lambda path: SimpleNamespace(free=copying.SPACE_LEFT_BYTES))
    with pytest.raises(NoSpace):
        shard.machine.copy_snapshot(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_pages_are_mostly_the_same_when_two_replicas_applied_the_same_in_other_batches(tmp_path: Path) -> None:
    """What page diffs between a leader's and a follower's database live from."""
    one, two = Group(tmp_path / "one"), Group(tmp_path / "two")
    put(one, 0, 300)
    for first in range(0, 300, 30):
        commands = [
            PutObject(bucket="b", key=f"k{n:06d}", bucket_epoch=1, size=1, etag="e", inline=b"x" * 3000)
            for n in range(first, first + 30)
        ]
        two.machine.apply(
            [two.entry(command, after=at, sequence=first + at + 1) for at, command in enumerate(commands)]
        )
    hashes = []
    for group in (one, two):
        group.machine.copy_snapshot(tmp_path / "copy")
        hashes.append(hash_pages((tmp_path / "copy").read_bytes()))
        group.close()
    same = sum(hashes[0][at : at + HASH_BYTES] == hashes[1][at : at + HASH_BYTES] for at in pages(hashes[0]))
    assert same > 0.95 * len(pages(hashes[0]))


def pages(hashes: bytes) -> range:
    return range(0, len(hashes), HASH_BYTES)
