"""One daemon a data directory, and only on the data of its own node."""

from __future__ import annotations

import pytest

from dwd.base.errors import Conflict, Corrupt, DwError, StorageFailed, VersionRefused
from dwd.base.ids import ClusterId, NodeId
from dwd.node.paths import DataClaim, Paths, claim_data
from dwd.runtime.os_files import OsFiles

CLUSTER = ClusterId("ab" * 16)


def claim(paths: Paths, *, cluster: ClusterId = CLUSTER, node: int = 1) -> DataClaim:
    return claim_data(OsFiles(), paths, cluster=cluster, node=NodeId(node))


def test_empty_directory_is_marked_and_claimed_again(paths: Paths) -> None:
    first = claim(paths)
    assert first.fresh
    first.release()
    second = claim(paths)
    assert not second.fresh
    second.release()


def test_second_daemon_is_refused_while_the_first_runs(paths: Paths) -> None:
    first = claim(paths)
    with pytest.raises(Conflict) as caught:
        claim(paths)
    assert (caught.value.code, "data_dir" in caught.value.hint) == ("node.already_running", True)
    first.release()
    claim(paths).release()


@pytest.mark.parametrize("other", [{"cluster": ClusterId("cd" * 16)}, {"node": 2}])
def test_data_of_another_node_or_cluster_is_refused_and_let_go(paths: Paths, other: dict[str, object]) -> None:
    claim(paths).release()
    with pytest.raises(VersionRefused, match="belongs to node"):
        claim(paths, **other)  # type: ignore[arg-type]
    claim(paths).release()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"{", Corrupt),
        (b"[]", Corrupt),
        (b'{"format": 9, "cluster_id": "", "node_id": ""}', VersionRefused),
    ],
)
def test_damaged_or_later_marker_is_refused(paths: Paths, content: bytes, expected: type[DwError]) -> None:
    paths.data.mkdir()
    paths.owner.write_bytes(content)
    with pytest.raises(expected):
        claim(paths)


def test_directory_with_strange_files_is_refused_and_left_alone(paths: Paths) -> None:
    paths.data.mkdir()
    (paths.data / "holiday.jpg").write_bytes(b"x")
    with pytest.raises(StorageFailed, match=r"holiday\.jpg"):
        claim(paths)
    assert not paths.owner.exists()


def test_directory_that_holds_only_devices_is_fresh(paths: Paths) -> None:
    (paths.data / "devices").mkdir(parents=True)
    found = claim(paths)
    assert found.fresh
    found.release()
