"""Which database is live after whatever a crash or a bad disk left of CURRENT and the generation directories."""

from __future__ import annotations

from pathlib import Path

import pytest

from dwd.base.errors import Corrupt
from dwd.meta.core.shard.commands import PutObject
from dwd.meta.store.databases import Databases
from dwd.meta.store.generations import Generations
from dwd.meta.store.machine import SqliteMachine
from dwd.runtime.os_files import OsFiles
from dwd.runtime.testing_files import MemoryFiles
from tests.twins.meta_group import CLUSTER, SHARD, Group
from tests.twins.virtual_time import SeededRng


def filled(directory: Path) -> int:
    """A group's folder with some data; where its database stands."""
    group = Group(directory)
    for number in range(5):
        group.send(PutObject(bucket="b", key=f"k{number}", bucket_epoch=1, size=1, etag="e", inline=b"x"))
    index = group.machine.position().index
    group.close()
    return index


def opened(directory: Path) -> int:
    machine = SqliteMachine(directory, cluster=CLUSTER, group=SHARD, files=OsFiles())
    machine.close()
    return machine.position().index


def databases(directory: Path) -> list[str]:
    return sorted(path.parent.name for path in directory.glob("gen-*/state.db"))


def test_what_a_broken_off_install_left_is_removed_when_current_names_the_old_one(tmp_path: Path) -> None:
    index = filled(tmp_path / "g")
    _ = filled(tmp_path / "other")
    (tmp_path / "other" / "gen-00000001").rename(tmp_path / "g" / "gen-00000002")
    (tmp_path / "g" / ".CURRENT.new").write_bytes(b"gen-000")
    assert opened(tmp_path / "g") == index
    assert databases(tmp_path / "g") == ["gen-00000001"]


@pytest.mark.parametrize("content", [b"", b"gen-0000", b"\x00" * 13, b"gen-00000007\n"])
def test_nothing_is_removed_when_current_is_torn_or_names_what_is_not_there(tmp_path: Path, content: bytes) -> None:
    index = filled(tmp_path / "g")
    (tmp_path / "g" / "CURRENT").write_bytes(content)
    with pytest.raises(Corrupt):
        opened(tmp_path / "g")
    (tmp_path / "g" / "CURRENT").write_bytes(b"gen-00000001\n")
    assert opened(tmp_path / "g") == index


def test_nothing_is_removed_when_current_is_missing_beside_data(tmp_path: Path) -> None:
    index = filled(tmp_path / "g")
    (tmp_path / "g" / "CURRENT").unlink()
    with pytest.raises(Corrupt) as caught:
        opened(tmp_path / "g")
    assert caught.value.code == "meta.current_missing"
    (tmp_path / "g" / "CURRENT").write_bytes(b"gen-00000001\n")
    assert opened(tmp_path / "g") == index


@pytest.mark.parametrize("left", [b"", b"half a page"])
def test_a_new_database_is_made_when_an_earlier_creation_was_broken_off(tmp_path: Path, left: bytes) -> None:
    (tmp_path / "g" / "gen-00000001").mkdir(parents=True)
    (tmp_path / "g" / "gen-00000001" / "state.db").write_bytes(left)
    assert opened(tmp_path / "g") == 0
    assert databases(tmp_path / "g") == ["gen-00000001"] or databases(tmp_path / "g") == ["gen-00000002"]
    assert opened(tmp_path / "g") == 0


@pytest.mark.parametrize("current", [None, b"nonsense"])
def test_the_replica_can_be_replaced_when_its_current_is_gone_or_torn(tmp_path: Path, current: bytes | None) -> None:
    found = Databases(tmp_path, cluster=CLUSTER, files=OsFiles())
    found.open(SHARD).close()
    (folder,) = tmp_path.iterdir()
    _ = filled(folder)
    pointer = folder / "CURRENT"
    pointer.unlink() if current is None else pointer.write_bytes(current)
    with pytest.raises(Corrupt):
        found.open(SHARD)
    found.discard(SHARD)
    machine = found.open(SHARD)
    assert machine.position().index == 0
    machine.close()
    found.close()


@pytest.mark.parametrize("seed", range(8))
def test_nothing_comes_back_when_the_power_fails_after_everything_was_discarded(seed: int) -> None:
    """Else the replica that is made next is taken for one whose CURRENT was lost, and breaks."""
    files = MemoryFiles()
    generations = Generations(Path("/data/g"), files)
    database = generations.prepare()
    files.write_durably(database, b"rows")
    generations.make_live(database)
    generations.discard()
    files.power_loss(SeededRng(seed))
    assert generations.databases() == []
    assert generations.live() is None
