"""What a command leaves for whoever proposed it. One flat type, so that remembered results stay small and uniform."""

from __future__ import annotations

from dataclasses import dataclass

from dwd.base.ids import LogIndex, Stamp


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """A command that took effect at `index` with `stamp`. What the other fields mean stands at each command."""

    index: LogIndex
    stamp: Stamp
    existed: bool = False
    size: int = 0
    count: int = 0
    more: bool = False
