"""Directory trees compared byte by byte."""

from __future__ import annotations

import filecmp
from pathlib import Path


def same_trees(left: Path, right: Path) -> None:
    names = sorted(str(path.relative_to(left)) for path in left.rglob("*") if path.is_file())
    assert names == sorted(str(path.relative_to(right)) for path in right.rglob("*") if path.is_file())
    assert filecmp.cmpfiles(left, right, names, shallow=False)[0] == names
