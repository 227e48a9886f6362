"""Generate `dwd/pb` from `proto/`: messages, services and their type stubs. `--check` fails when it is stale.

`proto/dwd/raft/v1/raft.proto` becomes `dwd/pb/raft/v1/raft_pb2.py` (and `_grpc`, and `.pyi`): the generated
imports are moved under `dwd.pb`, so that hand-written and generated code never share a package.
"""

from __future__ import annotations

import filecmp
import re
import shutil
import sys
import tempfile
from pathlib import Path

from grpc_tools import _proto, protoc

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ROOT / "proto"
TARGET = ROOT / "dwd" / "pb"
DOCSTRING = '"""Generated from proto/ by `make proto`; do not edit."""\n'
IMPORT = re.compile(r"^(from|import) dwd\.(?!pb\.)", re.MULTILINE)
QUALIFIED = re.compile(r"(?<![\w.'\"/])dwd\.(?=[a-z]+\.v\d+\.[a-z_]+_pb2)")


def generate(target: Path) -> None:
    protos = sorted(str(p.relative_to(SOURCES)) for p in SOURCES.rglob("*.proto"))
    with tempfile.TemporaryDirectory() as scratch:
        well_known = Path(next(iter(_proto.__path__)))
        outs = ("python", "grpc_python", "mypy", "mypy_grpc")
        plugins = [f"--plugin=protoc-gen-{n}={Path(sys.executable).parent / f'protoc-gen-{n}'}" for n in outs[2:]]
        arguments = [
            "protoc",
            f"-I{SOURCES}",
            f"-I{well_known}",
            *plugins,
            *(f"--{n}_out={scratch}" for n in outs),
            *protos,
        ]
        if protoc.main(arguments) != 0:
            sys.exit("protoc failed")
        for made in sorted(Path(scratch).rglob("*_pb2*.py*")):
            text = QUALIFIED.sub("dwd.pb.", IMPORT.sub(r"\1 dwd.pb.", made.read_text()))
            path = target / made.relative_to(Path(scratch) / "dwd")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    for folder in {target, *(p for p in target.rglob("*") if p.is_dir() and p.name != "__pycache__")}:
        (folder / "__init__.py").write_text(DOCSTRING)


def stale(fresh: Path) -> list[str]:
    def files(root: Path) -> set[str]:
        return {str(p.relative_to(root)) for p in root.rglob("*.py*") if p.suffix in {".py", ".pyi"}}

    names = files(fresh) | files(TARGET)
    return sorted(
        n
        for n in names
        if not ((fresh / n).is_file() and (TARGET / n).is_file() and filecmp.cmp(fresh / n, TARGET / n, shallow=False))
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        fresh = Path(scratch) / "pb"
        generate(fresh)
        names = stale(fresh)
        if names and "--check" in sys.argv[1:]:
            sys.exit("generated code is stale, run `make proto`:\n  " + "\n  ".join(names))
        for name in names:
            update(fresh / name, TARGET / name)


def update(source: Path, target: Path) -> None:
    """Only what differs is written, so that programs running from the tree never see a file missing."""
    if source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    else:
        target.unlink()


if __name__ == "__main__":
    main()
