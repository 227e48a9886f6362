"""Runs testdata/raft/*.txt; the commands are described in `tests.raft_harness.scenario`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.raft_harness.scenario import Scenario, parse, write

FILES = sorted((Path(__file__).parent / "testdata" / "raft").glob("*.txt"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_scenario_plays_as_written_when_run(path: Path, rewrite: bool) -> None:
    text = path.read_text()
    blocks, scenario = parse(text), Scenario()
    for block in blocks:
        block.output = scenario.run(block.command)
    played = write(blocks)
    if rewrite:
        path.write_text(played)
    else:
        assert played.splitlines() == text.splitlines()
