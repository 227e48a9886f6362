"""deploy/dwd.toml, written from the settings themselves: every key explained, its default commented out."""

from __future__ import annotations

import inspect
import json
import textwrap
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from dwd.base.units import KIB, format_bytes
from dwd.config.load import ENV_PREFIX, sections_of
from dwd.config.sections import Device
from dwd.config.settings import Settings
from dwd.config.values import Address

WIDTH = 100

_HEAD = f"""\
# Settings of dwd. Every key stands here with its default; remove the mark in front of a key to set it.
# A variable {ENV_PREFIX}<SECTION>_<KEY> overrides a key: {ENV_PREFIX}RAFT_TICK_MS=50. Unknown keys are refused.
# Check a file with `dwd check-config`. Sizes are bytes or like "64MiB". Written from the code by `make docs`.
"""
_EXAMPLES = {
    "name": '"storage-1"',
    "advertise": '"10.0.0.5:7400"',
    "s3_certificate": '"/etc/dwd/s3.pem"',
    "s3_key": '"/etc/dwd/s3.key"',
    "admin_certificate": '"/etc/dwd/admin.pem"',
    "admin_key": '"/etc/dwd/admin.key"',
    "path": '"/srv/disk1"',
}
"""Shown where there is no default, or one that differs from machine to machine."""


def document() -> str:
    """The whole file."""
    parts = [_HEAD]
    for name, model in sections_of(Settings).items():
        header = f"[[{name}]]" if model is Device else f"[{name}]"
        lines = [*_comment(inspect.getdoc(model) or ""), f"# {header}" if model is Device else header]
        for key, field in model.model_fields.items():
            lines += ["", *_comment(_explained(field)), f"# {key} = {_shown(key, field)}"]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _explained(field: FieldInfo) -> str:
    text = field.description or ""
    low = next((m.ge for m in field.metadata if getattr(m, "ge", None) is not None), None)
    high = next((m.le for m in field.metadata if getattr(m, "le", None) is not None), None)
    if low is None and high is None:
        return text
    size = _is_size(field)
    return f"{text} {_bound('From', low, size)}{_bound(' to' if low is not None else 'Up to', high, size)}."


def _bound(word: str, value: Any, size: bool) -> str:
    if value is None:
        return ""
    return f"{word} {format_bytes(value) if size else f'{value:g}' if isinstance(value, float) else value}"


def _is_size(field: FieldInfo) -> bool:
    return any("_size" in repr(m) for m in field.metadata)


def _shown(key: str, field: FieldInfo) -> str:
    if key in _EXAMPLES:
        return _EXAMPLES[key]
    value = field.default
    if _is_size(field) and value % KIB == 0 and value:
        return json.dumps(format_bytes(value).replace(" ", ""))
    if isinstance(value, Enum):
        return json.dumps(value.value)
    if isinstance(value, Path | Address | str | bool):
        return json.dumps(value if isinstance(value, bool) else str(value))
    return str(value)


def _comment(text: str) -> list[str]:
    joined = " ".join(text.split())
    return textwrap.wrap(joined, WIDTH, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False)
