"""Settings and paths of a node in a temporary directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from dwd.config.load import load
from dwd.config.settings import Settings
from dwd.node.paths import Paths, paths_of


def write_settings(root: Path, name: str) -> Settings:
    """Of a node `name` that keeps everything below root/name."""
    folder = root / name
    folder.mkdir(exist_ok=True)
    lines = ["[node]", f'name = "{name}"', f'data_dir = "{folder}/data"', f'identity_dir = "{folder}/identity"']
    lines += ["[listen]", 'grpc = "127.0.0.1:7400"', 's3 = "127.0.0.1:7480"', 'admin = "127.0.0.1:7490"']
    (folder / "dwd.toml").write_text("\n".join(lines) + "\n")
    return load(folder / "dwd.toml", {})


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return write_settings(tmp_path, "n1")


@pytest.fixture
def paths(settings: Settings) -> Paths:
    return paths_of(settings)
