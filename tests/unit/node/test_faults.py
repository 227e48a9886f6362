"""Faults on order: the file's form, and that nothing but a development cluster takes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dwd.base.errors import InvalidArgument, NoSpace
from dwd.base.ids import NodeId, hex_id
from dwd.config.settings import Settings
from dwd.node.disk import Disk
from dwd.node.faults import Faults, Rules, load_rules
from dwd.runtime.tasks import Tasks
from dwd.runtime.testing_files import MemoryFiles
from tests.twins.manual_clock import ManualClock
from tests.twins.raft_cluster import until

ONE, TWO = NodeId(1), NodeId(2)


def test_rules_are_read_when_the_file_has_some(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    assert load_rules(path) == Rules()
    document = {
        "cut": [[hex_id(1), hex_id(2)]],
        "delay_ms": [[hex_id(2), hex_id(1), 5]],
        "clock_ms": {hex_id(1): -500},
        "full": [hex_id(2)],
        "slow_ms": {hex_id(1): 500},
    }
    path.write_text(json.dumps(document))
    assert load_rules(path) == Rules(
        cut=frozenset({(ONE, TWO)}), delay_ms={(TWO, ONE): 5.0}, clock_ms={ONE: -500}, full=frozenset({TWO}),
        slow_ms={ONE: 500.0},
    )  # fmt: skip


@pytest.mark.parametrize("text", ["", "[]", '{"cat": []}', '{"cut": [["1"]]}', '{"clock_ms": {"x": 1}}'])
def test_rules_are_refused_when_the_file_makes_no_sense(tmp_path: Path, text: str) -> None:
    (tmp_path / "faults.json").write_text(text)
    with pytest.raises(InvalidArgument):
        load_rules(tmp_path / "faults.json")


@pytest.mark.parametrize(
    "listen",
    [{"s3": "0.0.0.0:1"}, {"admin": "10.0.0.1:1"}, {"grpc": "[::]:1", "advertise": "127.0.0.1:1"}],
)
def test_faults_are_refused_when_the_node_listens_beyond_loopback(tmp_path: Path, listen: dict[str, str]) -> None:
    settings = Settings.model_validate({"listen": listen})
    with pytest.raises(InvalidArgument, match="development clusters"):
        Faults(tmp_path / "faults.json", settings, ManualClock())


async def test_clock_and_disk_obey_when_the_file_changes(tmp_path: Path) -> None:
    path, clock = tmp_path / "faults.json", ManualClock()
    faults = Faults(path, Settings(), clock)
    disk = faults.on(Disk(files=MemoryFiles()))
    faults.be(ONE)
    file = disk.files.open(Path("/f"), create=True)
    file.write_at(0, [b"before"])
    async with Tasks("test", lambda name, error: None) as tasks:
        _ = tasks.spawn(faults.run(), name="faults")
        path.write_text(json.dumps({"clock_ms": {hex_id(1): 1000}, "full": [hex_id(1)]}))
        await until(lambda: faults.clock.unix_ms() != clock.unix_ms(), "the clock is skewed")
        assert faults.clock.unix_ms() == clock.unix_ms() + 1000
        with pytest.raises(NoSpace):
            file.write_at(6, [b"more"])
        path.write_text("not json at all")
        path.unlink()
        await until(lambda: faults.clock.unix_ms() == clock.unix_ms(), "the clock is right")
        file.write_at(6, [b"after"])
