"""What is wrong with the settings: collected, never thrown one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dwd.base.errors import InvalidArgument


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """`path` is where in the TOML file ("raft.tick_ms", "device[1].path"), empty for the whole file."""

    path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.path}: " if self.path else ""
        return f"{place}{self.message}" + (f" ({self.hint})" if self.hint else "")


def refuse(source: str, faults: Sequence[Fault]) -> InvalidArgument:
    """One error that lists all `faults` of `source`, a line each."""
    count = "one fault" if len(faults) == 1 else f"{len(faults)} faults"
    lines = [f"{source} has {count}:", *(f"  {fault}" for fault in faults)]
    return InvalidArgument(
        "config.invalid",
        "\n".join(lines),
        hint="`dwd config` explains every key",
        faults=len(faults),
    )
