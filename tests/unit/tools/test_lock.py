"""The lock file: complete, hashed, and the part of it that images get."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[3]


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tools_{name}", ROOT / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


lock = load("lock")


def test_lock_input_is_all_that_the_project_names_when_read() -> None:
    pyproject = """
[build-system]
requires = ["hatchling"]
[project]
dependencies = ["b>=1", "a>=1"]
[dependency-groups]
dev = ["c", "a>=1"]
"""
    assert lock.requirements(pyproject) == ["a>=1", "b>=1", "c", "hatchling"]


def test_lock_file_holds_every_named_dependency_with_a_hash() -> None:
    text = lock.LOCK.read_text()
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in text.splitlines() if "==" in line}
    for requirement in lock.requirements((ROOT / "pyproject.toml").read_text()):
        name = requirement.split(">")[0].split("=")[0].strip().lower()
        assert name in pinned, f"{name} is not locked: run make lock"
    blocks = text.split("\n    --hash=sha256:")
    assert len(blocks) > len(pinned)
    assert "http" not in text.replace("aiohttp", "")


def test_runtime_part_is_what_the_dependencies_need_and_no_more() -> None:
    pyproject = '[project]\ndependencies = ["Web_Server[tls]>=1"]'
    blocks = {name: f"{name}==1 \\\n    --hash=sha256:{name}\n" for name in ("pytest", "ssl", "url", "web-server")}
    needs = {
        "web-server": ["url>=2", "ssl; extra == 'tls'", "pytest; extra == 'dev'", "old; python_version < '3'"],
        "url": ["web-server"],
    }
    part = lock.runtime(pyproject, lock.HEADER + "".join(blocks.values()), lambda name: needs.get(name, []))
    assert part == blocks["ssl"] + blocks["url"] + blocks["web-server"]


def test_runtime_part_fails_when_the_lock_lacks_something() -> None:
    with pytest.raises(KeyError, match="url"):
        lock.runtime('[project]\ndependencies = ["url"]', lock.HEADER, lambda _name: [])
