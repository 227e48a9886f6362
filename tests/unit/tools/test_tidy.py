"""The house rules find what they are for, and nothing else."""

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


tidy = load("tidy")
DOC = '"""What it is for."""\n'
USED = {"dwd/__init__.py": DOC, "dwd/node/cli.py": DOC + "from dwd.base import thing\n", "dwd/base/thing.py": DOC}


def breaches(root: Path, files: dict[str, str]) -> list[str]:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return sorted(tidy.found(root, sorted(files)))


def only(root: Path, body: str, name: str = "dwd/base/thing.py") -> str:
    (breach,) = breaches(root, USED | {name: body})
    return breach


def test_nothing_is_found_when_the_tree_is_tidy(tmp_path: Path) -> None:
    assert breaches(tmp_path, USED) == []


def test_module_is_found_when_longer_than_allowed(tmp_path: Path) -> None:
    body = DOC + "\n" * (tidy.MODULE_LINES_MAX - 1)
    assert breaches(tmp_path, USED | {"dwd/base/thing.py": body}) == []
    assert "401 lines" in only(tmp_path, body + "\n")


def test_function_is_found_when_longer_than_allowed(tmp_path: Path) -> None:
    body = DOC + "class A:\n    async def work(self):\n" + "        a = 1\n" * (tidy.FUNCTION_LINES_MAX - 1)
    assert breaches(tmp_path, USED | {"dwd/base/thing.py": body}) == []
    assert only(tmp_path, body + "        a = 1\n").startswith("dwd/base/thing.py:3: work has 61 lines")


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ("", "no module docstring"),
        (DOC + "assert 1\n", ":2: bare assert"),
        (DOC + "print(1)\n", ":2: print"),
        (DOC + "def f():\n    raise NotImplementedError\n", ":3: not implemented"),
        (DOC + "def f():\n    raise NotImplementedError('later')\n", ":3: not implemented"),
        (DOC + "a = 1  # TO" + "DO: later\n", ":2: TO" + "DO"),
        ('"""Fine. FIX' + 'ME."""\n', ":1: FIX" + "ME"),
        (DOC + "def broken(:\n", "does not parse"),
    ],
)
def test_breach_is_found_when_in_the_product(tmp_path: Path, body: str, what: str) -> None:
    assert what in only(tmp_path, body)


@pytest.mark.parametrize("name", ["tests/unit/test_a.py", "dwd/pb/raft/v1/raft_pb2.py"])
def test_code_rules_do_not_hold_when_outside_the_hand_written_product(tmp_path: Path, name: str) -> None:
    assert breaches(tmp_path, USED | {name: "assert 1\nprint(1)\n# TO" + "DO\n"}) == []


def test_initialiser_is_found_when_it_holds_more_than_a_docstring(tmp_path: Path) -> None:
    assert "docstring and nothing else" in only(tmp_path, DOC + "import os\n", "dwd/__init__.py")
    assert "docstring and nothing else" in only(tmp_path, "", "dwd/__init__.py")


def test_module_is_dead_when_only_tests_import_it(tmp_path: Path) -> None:
    dead = {"dwd/base/dead.py": DOC, "tests/test_dead.py": "from dwd.base import dead\n"}
    assert breaches(tmp_path, USED | dead) == ["dwd/base/dead.py:1: nothing imports it"]


def test_twin_for_tests_is_alive_when_tests_import_it(tmp_path: Path) -> None:
    twin = {"dwd/base/testing_files.py": DOC}
    assert breaches(tmp_path, USED | twin) == ["dwd/base/testing_files.py:1: nothing imports it"]
    test = {"tests/test_twin.py": "from dwd.base.testing_files import MemoryFiles\n"}
    assert breaches(tmp_path, USED | twin | test) == []


@pytest.mark.parametrize(
    "statement",
    [
        "import dwd.base.other",
        "from dwd.base import other",
        "from dwd.base.other import f",
        "from . import other",
        "from .other import f",
        "from ..base.other import f",
        "def f():\n    from dwd.base.other import g",
        "COMMANDS = {'other': 'dwd.base.other:main'}",
    ],
)
def test_module_is_alive_when_imported_in_any_way(tmp_path: Path, statement: str) -> None:
    other = {"dwd/base/other.py": DOC, "dwd/base/thing.py": DOC + statement + "\n"}
    assert breaches(tmp_path, USED | other) == []


@pytest.mark.parametrize(
    "text",
    [
        "--index" + "-url http://mirror.local/pypi",
        "https://mirror.local/" + "simple/aiohttp",
        "cd /wo" + "rk/main",
        "/ro" + "ot/.config",
        "/ho" + "me/someone",
    ],
)
@pytest.mark.parametrize("name", ["README.md", "tests/a.py", "deploy/compose.yaml", "dwd/pb/a_pb2.py"])
def test_trace_of_a_machine_is_found_when_in_any_file(tmp_path: Path, name: str, text: str) -> None:
    (breach,) = breaches(tmp_path, USED | {name: f'"""{text}"""\n'})
    assert breach.startswith(f"{name}:1: names a registry or a machine's path")


def test_binary_files_are_left_alone_when_searched(tmp_path: Path) -> None:
    (tmp_path / "golden.bin").write_bytes(b"\0\1 /wo" + b"rk/main")
    assert list(tidy.found(tmp_path, ["golden.bin"])) == []
