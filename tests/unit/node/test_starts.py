"""Older copies of a directory are told from the one the node last ran with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dwd.base.errors import StorageFailed
from dwd.node.paths import Paths
from dwd.node.starts import MARK, Starts
from dwd.runtime.clock import SystemRng
from dwd.runtime.os_files import OsFiles


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    (tmp_path / "identity").mkdir()
    (tmp_path / "data").mkdir()
    return Paths(identity=tmp_path / "identity", data=tmp_path / "data")


def start(paths: Paths) -> bool:
    """One start of a node: whether it took its data for old."""
    starts = Starts(paths, OsFiles(), SystemRng())
    old = starts.is_old(paths.data)
    starts.renew(paths.data)
    return old


def test_directory_is_believed_when_it_is_the_one_of_the_last_start(paths: Paths) -> None:
    assert [start(paths) for _ in range(3)] == [False, False, False]


def test_directory_is_old_when_a_copy_from_before_the_last_start_was_put_back(paths: Paths, tmp_path: Path) -> None:
    start(paths)
    shutil.copytree(paths.data, tmp_path / "copy")
    start(paths)
    shutil.rmtree(paths.data)
    shutil.copytree(tmp_path / "copy", paths.data)
    assert Starts(paths, OsFiles(), SystemRng()).is_old(paths.data)
    assert start(paths)
    assert not start(paths)


def test_directory_is_old_when_its_mark_is_gone(paths: Paths) -> None:
    start(paths)
    (paths.data / MARK).unlink()
    assert start(paths)


def test_directory_is_believed_when_what_was_there_is_given_up(paths: Paths) -> None:
    start(paths)
    (paths.data / MARK).unlink()
    starts = Starts(paths, OsFiles(), SystemRng())
    starts.forget(paths.data)
    assert not starts.is_old(paths.data)


class FailingFiles(OsFiles):
    def write_durably(self, path: Path, content: bytes) -> None:
        raise StorageFailed("test.full", "no space")


def test_directory_is_still_believed_when_the_start_broke_off_between_record_and_mark(paths: Paths) -> None:
    start(paths)
    with pytest.raises(StorageFailed):
        Starts(paths, FailingFiles(), SystemRng()).renew(paths.data)
    assert not start(paths)


def test_every_directory_is_believed_when_the_record_is_damaged(paths: Paths) -> None:
    start(paths)
    paths.starts.write_text("{")
    assert not start(paths)
