"""The database under a group: positions, snapshots, generations, damage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw
import pytest

from dwd.base.errors import Corrupt, InvariantViolation, NotFound, StorageFailed, VersionRefused
from dwd.base.ids import CONTROL_GROUP, ClusterId, GroupId, LogIndex, NodeId, ReplicaId, Term
from dwd.meta.core.shard.commands import PutObject
from dwd.meta.core.shard.queries import GetCounts, HeadObject
from dwd.meta.core.versions import NEWEST
from dwd.meta.store.machine import Live, SqliteMachine
from dwd.meta.store.reader import GroupReader
from dwd.raft.core.configuration_codec import encode_configuration
from dwd.raft.core.types import Configuration, Entry, EntryKind, Member, MemberRole
from dwd.runtime.os_files import OsFiles
from tests.twins.meta_group import CLUSTER, SHARD, Group, content_hash


def put(key: str, size: int = 1) -> PutObject:
    return PutObject(bucket="b", key=key, bucket_epoch=1, size=size, etag="e", inline=b"x" * size)


def exists(group: Group, key: str) -> bool:
    return group.ask(HeadObject(bucket="b", key=key)).object is not None


def open_machine(directory: Path, **changes: Any) -> SqliteMachine:
    facts: dict[str, Any] = {"cluster": CLUSTER, "group": SHARD, "files": OsFiles()}
    return SqliteMachine(directory, **{**facts, **changes})


def test_position_moves_with_every_kind_of_entry(shard: Group) -> None:
    configuration = Configuration(members=(Member(node=NodeId(1), replica=ReplicaId(2), role=MemberRole.VOTER),))
    start = shard.machine.position()
    first = Entry(
        index=LogIndex(start.index + 1), term=Term(3), kind=EntryKind.CONFIGURATION, stamp=start.stamp,
        payload=encode_configuration(configuration),
    )  # fmt: skip
    second = Entry(index=LogIndex(start.index + 2), term=Term(4), kind=EntryKind.NOOP, stamp=start.stamp, payload=b"")
    assert list(shard.machine.apply([first, second])) == [None, None]
    position = shard.machine.position()
    assert (position.index, position.term, position.configuration) == (second.index, 4, configuration)
    reopened = open_machine(shard.directory)
    assert reopened.position() == position
    reopened.close()


def test_entry_out_of_order_is_an_invariant_violation(shard: Group) -> None:
    with pytest.raises(InvariantViolation):
        shard.machine.apply([shard.entry(put("k"), after=1)])
    shard.send(put("k"))


def test_batch_leaves_nothing_when_one_of_its_entries_is_fatal(shard: Group) -> None:
    before = content_hash(shard.machine.live.path)
    good = shard.entry(put("k"))
    bad = Entry(
        index=LogIndex(good.index + 1), term=Term(1), kind=EntryKind.COMMAND, stamp=good.stamp, payload=b"\xff\xff"
    )
    with pytest.raises(InvariantViolation):
        shard.machine.apply([good, bad])
    assert content_hash(shard.machine.live.path) == before
    shard.send(put("k"))
    assert exists(shard, "k")


def test_unknown_command_stops_the_group(shard: Group) -> None:
    good = shard.entry(put("k"))
    later = Entry(index=good.index, term=good.term, kind=good.kind, stamp=good.stamp, payload=b"\x08\x01\x20\x01")
    with pytest.raises(VersionRefused):
        shard.machine.apply([later])


def test_checkpoint_empties_the_wal_into_the_database(shard: Group, tmp_path: Path) -> None:
    shard.send(put("k", 50_000))
    assert shard.machine.checkpoint() == shard.machine.position().index
    alone = tmp_path / "alone.db"
    alone.write_bytes(shard.machine.live.path.read_bytes())
    connection = apsw.Connection(str(alone))
    assert list(connection.execute("SELECT CAST(key AS TEXT) FROM objects")) == [("k",)]
    connection.close()


def test_checkpoint_reports_nothing_while_a_long_reader_pins_the_wal(shard: Group) -> None:
    shard.send(put("a"))
    reader = apsw.Connection(str(shard.machine.live.path))
    reader.execute("BEGIN")
    assert list(reader.execute("SELECT count(*) FROM objects")) == [(1,)]
    shard.send(put("b"))
    assert shard.machine.checkpoint() is None
    reader.execute("COMMIT")
    reader.close()
    assert shard.machine.checkpoint() == shard.machine.position().index


def test_wal_stays_bounded_when_checkpoints_are_made(shard: Group) -> None:
    sizes = []
    for _ in range(6):
        for _ in range(20):
            shard.send(put("k", 100_000))
        assert shard.machine.checkpoint() is not None
        sizes.append(Path(f"{shard.machine.live.path}-wal").stat().st_size)
    assert sizes[-1] <= sizes[1] * 1.2


def test_snapshot_is_served_by_another_replica_when_installed(shard: Group, tmp_path: Path) -> None:
    shard.send(put("k"))
    copy = tmp_path / "copy.db"
    meta = shard.machine.copy_snapshot(copy)
    shard.send(put("later"))
    other = Group(tmp_path / "other")
    other.send(put("mine"))
    assert exists(other, "mine")
    other.machine.install_snapshot(copy, meta)
    assert not copy.exists()
    assert other.machine.position() == meta
    assert (exists(other, "k"), exists(other, "mine"), exists(other, "later")) == (True, False, False)
    other.sequence = shard.sequence
    other.send(put("more"))
    other.close()
    reopened = Group(tmp_path / "other")
    assert exists(reopened, "more")
    reopened.close()


@pytest.mark.parametrize("wrong", ["torn", "flipped", "position", "group", "missing"])
def test_snapshot_is_refused_and_the_live_one_stays_when_it_is_bad(shard: Group, tmp_path: Path, wrong: str) -> None:
    for n in range(40):
        shard.send(put(f"k{n}", 3_000))
    copy = tmp_path / "copy.db"
    meta = shard.machine.copy_snapshot(copy)
    other = Group(tmp_path / "other", CONTROL_GROUP if wrong == "group" else SHARD)
    if wrong == "torn":
        copy.write_bytes(copy.read_bytes()[:-8_192])
    if wrong == "flipped":
        content = bytearray(copy.read_bytes())
        for at in range(4_096, len(content), 4_096):
            content[at : at + 12] = b"\xff" * 12
        copy.write_bytes(content)
    if wrong == "missing":
        copy.unlink()
    expected = other.machine.position() if wrong == "position" else meta
    before = other.machine.position()
    with pytest.raises(NotFound if wrong == "missing" else Corrupt):
        other.machine.install_snapshot(copy, expected)
    assert other.machine.position() == before
    other.close()
    open_machine(tmp_path / "other", group=other.group).close()


def test_install_is_all_or_nothing_when_it_crashes_at_any_step(shard: Group, tmp_path: Path) -> None:
    shard.send(put("k"))
    copy = tmp_path / "copy.db"
    crashes = 0
    for step in range(40):
        meta = shard.machine.copy_snapshot(copy)
        directory = tmp_path / f"replica-{step}"
        fresh = Group(directory)
        fresh.close()
        before = open_machine(directory)
        old = before.position()
        before.close()
        files = CrashingFiles(step)
        machine = open_machine(directory, files=files)
        files.armed = True
        try:
            machine.install_snapshot(copy, meta)
        except StorageFailed:
            crashes += 1
        machine.close()
        after = open_machine(directory)
        assert after.position() in (old, meta)
        if not files.crashed:
            assert after.position() == meta
            after.close()
            break
        after.close()
    assert crashes >= 6, "the steps were really interrupted"
    assert not files.crashed


def test_left_over_generation_is_swept_when_opened(shard: Group, tmp_path: Path) -> None:
    junk = shard.directory / "gen-00000009"
    junk.mkdir()
    (junk / "state.db").write_bytes(b"junk")
    shard.close()
    again = Group(shard.directory)
    assert not junk.exists()
    again.close()
    shard.machine = again.machine
    shard.machine = open_machine(shard.directory)


@pytest.mark.parametrize("wrong", ["page", "header", "gone", "current"])
def test_damage_is_found_when_opened(tmp_path: Path, wrong: str) -> None:
    group = Group(tmp_path / "g")
    for n in range(200):
        group.send(put(f"key-{n:04d}", 500))
    group.machine.checkpoint()
    path = group.machine.live.path
    group.close()
    content = bytearray(path.read_bytes())
    if wrong == "page":
        for at in range(4_096, len(content), 4_096):
            content[at : at + 8] = b"\xaa" * 8
        path.write_bytes(content)
    if wrong == "header":
        path.write_bytes(b"no database at all, " * 1_000)
    if wrong == "gone":
        path.unlink()
    if wrong == "current":
        (tmp_path / "g" / "CURRENT").write_bytes(b"nonsense")
    with pytest.raises(Corrupt):
        open_machine(tmp_path / "g")


def test_damage_is_found_and_kept_in_mind_when_met_at_run_time(tmp_path: Path) -> None:
    group = Group(tmp_path / "g")
    entries = [group.entry(put(f"key-{n:06d}", 1_000), after=n, sequence=n + 1) for n in range(4_000)]
    group.machine.apply(entries)
    group.machine.checkpoint()
    path = group.machine.live.path
    content = bytearray(path.read_bytes())
    group.close()
    machine = open_machine(tmp_path / "g")
    for at in range(4_096 * 8, len(content), 4_096):
        content[at : at + 64] = b"\xaa" * 64
    with path.open("r+b") as file:
        file.write(content)
    machine._connection.execute("PRAGMA shrink_memory")
    group.machine = machine
    group.sequence = 5_000
    with pytest.raises(Corrupt):  # noqa: PT012 - whichever page is met first
        for n in range(0, 4_000, 7):
            group.send(put(f"key-{n:06d}", 1_000))
    with pytest.raises(Corrupt):
        machine.checkpoint()
    machine.close()


def test_foreign_database_is_refused(tmp_path: Path) -> None:
    Group(tmp_path / "g").close()
    with pytest.raises(VersionRefused):
        open_machine(tmp_path / "g", cluster=ClusterId("cd" * 16))
    with pytest.raises(Corrupt):
        open_machine(tmp_path / "g", group=GroupId(2))
    with pytest.raises(Corrupt):
        open_machine(tmp_path / "g", group=CONTROL_GROUP)


def test_newer_schema_is_refused(tmp_path: Path) -> None:
    group = Group(tmp_path / "g")
    path = group.machine.live.path
    group.close()
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(VersionRefused):
        open_machine(tmp_path / "g")


def set_version(path: Path, version: int) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE position SET version = ?", (version,))
    connection.close()


def test_group_is_not_opened_when_its_active_version_is_not_known(tmp_path: Path) -> None:
    group = Group(tmp_path / "g")
    path = group.machine.live.path
    group.close()
    set_version(path, NEWEST + 1)
    with pytest.raises(VersionRefused) as caught:
        open_machine(tmp_path / "g")
    assert caught.value.code == "meta.version_newer"
    assert "upgrade" in caught.value.hint
    set_version(path, 0)
    with pytest.raises(Corrupt):
        open_machine(tmp_path / "g")


def test_snapshot_is_refused_and_the_live_one_stays_when_its_active_version_is_not_known(
    shard: Group, tmp_path: Path
) -> None:
    shard.send(put("k"))
    copy = tmp_path / "copy.db"
    meta = shard.machine.copy_snapshot(copy)
    set_version(copy, NEWEST + 1)
    other = Group(tmp_path / "other")
    before = other.machine.position()
    with pytest.raises(VersionRefused):
        other.machine.install_snapshot(copy, meta)
    assert other.machine.position() == before
    other.send(put("mine"))
    assert exists(other, "mine")
    other.close()


def test_reader_follows_when_another_generation_becomes_live(shard: Group, tmp_path: Path) -> None:
    shard.send(put("k"))
    assert shard.ask(GetCounts()).objects == 1
    copy = tmp_path / "copy.db"
    meta = shard.machine.copy_snapshot(copy)
    shard.send(put("k2"))
    assert shard.ask(GetCounts()).objects == 2
    shard.machine.install_snapshot(copy, meta)
    assert shard.ask(GetCounts()).objects == 1


class CrashingFiles(OsFiles):
    """Fails at the `step`-th call that changes something, and at every later one."""

    def __init__(self, step: int) -> None:
        self.left = step
        self.armed = False
        self.crashed = False

    def _tick(self) -> None:
        if not self.armed:
            return
        if self.crashed or self.left == 0:
            self.crashed = True
            raise StorageFailed("test.crashed", "the power is gone")
        self.left -= 1

    def make_directory(self, path: Path) -> None:
        self._tick()
        super().make_directory(path)

    def rename(self, source: Path, target: Path) -> None:
        self._tick()
        super().rename(source, target)

    def open(self, path: Path, *, create: bool = False) -> Any:
        self._tick()
        return super().open(path, create=create)

    def sync_directory(self, path: Path) -> None:
        self._tick()
        super().sync_directory(path)

    def remove(self, path: Path) -> None:
        self._tick()
        super().remove(path)


def test_answer_comes_from_the_new_generation_when_the_old_one_vanishes_meanwhile(shard: Group, tmp_path: Path) -> None:
    shard.send(put("k"))
    looks = iter([Live(path=tmp_path / "swept" / "state.db", number=1)] * 2)
    reader = GroupReader(SHARD, lambda: next(looks, Live(path=shard.machine.live.path, number=2)), vfs="")
    assert reader.answer(HeadObject(bucket="b", key="k"), index_min=LogIndex(1)).object is not None
    reader.close()


def test_reader_fails_when_the_live_database_is_gone(tmp_path: Path) -> None:
    reader = GroupReader(SHARD, lambda: Live(path=tmp_path / "gone" / "state.db", number=1), vfs="")
    with pytest.raises(StorageFailed):
        reader.answer(HeadObject(bucket="b", key="k"), index_min=LogIndex(1))
