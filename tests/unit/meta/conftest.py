"""Groups on real databases in temporary directories."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dwd.base.ids import CONTROL_GROUP
from tests.twins.meta_group import Group


@pytest.fixture
def shard(tmp_path: Path) -> Iterator[Group]:
    group = Group(tmp_path / "shard")
    yield group
    group.close()


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Group]:
    group = Group(tmp_path / "control", CONTROL_GROUP)
    yield group
    group.close()
