"""Tables for people: which columns fit the terminal, how cells look; tab-separated lines where the output is piped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table as RichTable

ID_CHARS = 8
"""Of an id, on a terminal: enough to tell nodes and devices apart. Pipes and JSON get ids whole."""
PADDING = 3
"""Characters between two columns."""
FOLDED_CHARS_MIN = 12
"""A last column that folds still wants this much."""
COLOURS = {
    "active": "green",
    "backing_off": "yellow",
    "busy": "green",
    "disabled": "yellow",
    "down": "red",
    "drained": "yellow",
    "draining": "yellow",
    "failed": "red",
    "idle": "green",
    "leader": "bold green",
    "lost": "red",
    "missing": "red",
    "none": "red",
    "paused": "yellow",
    "probe": "yellow",
    "quarantined": "red",
    "replicate": "green",
    "retired": "dim",
    "running": "green",
    "snapshot": "yellow",
    "stopped": "red",
    "throttled": "green",
    "unreachable": "red",
    "up": "green",
}
"""What a state looks like; the word itself always stands there too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """`rank` 0 always stays; where the terminal is narrow the highest ranks are left out first."""

    name: str
    rank: int = 0
    is_id: bool = False
    is_state: bool = False
    is_number: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """`columns` given as plain strings always stay."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]


def table(title: str, columns: Iterable[str | Column], rows: Iterable[Sequence[str]]) -> Table:
    """A table whose cells hold no line breaks or tabs: one row is one line wherever it is printed."""
    made = tuple(c if isinstance(c, Column) else Column(name=c) for c in columns)
    return Table(title=title, columns=made, rows=tuple(tuple(" ".join(cell.split()) for cell in row) for row in rows))


def plain(found: Table) -> Iterator[str]:
    """Tab-separated lines, all columns, names first."""
    yield "\t".join(column.name for column in found.columns)
    for row in found.rows:
        yield "\t".join(row)


def shown(found: Table, width: int) -> tuple[int, ...]:
    """The columns that fit `width` characters, by position."""
    chosen = list(range(len(found.columns)))
    while len(chosen) > 1 and _width(found, chosen) > width:
        least = max(chosen, key=lambda i: (found.columns[i].rank, i))
        if not found.columns[least].rank:
            break
        chosen.remove(least)
    return tuple(chosen)


def for_terminal(found: Table, width: int) -> RichTable:
    """What fits, aligned and coloured."""
    from rich import box
    from rich.table import Table as RichTable
    from rich.text import Text

    chosen = shown(found, width)
    made = RichTable(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, show_edge=False, padding=(0, 1))
    for position in chosen:
        column = found.columns[position]
        made.add_column(column.name, overflow="fold", justify="right" if column.is_number else "left")
    for row in found.rows:
        cells = [
            Text(
                _cell(found.columns[i], row[i]),
                style=COLOURS.get(row[i].split()[0] if row[i] else "", "") if found.columns[i].is_state else "",
            )
            for i in chosen
        ]
        made.add_row(*cells)
    return made


def _cell(column: Column, text: str) -> str:
    return text[:ID_CHARS] if column.is_id else text


def _width(found: Table, chosen: Sequence[int]) -> int:
    """Characters the chosen columns take; the last may fold if it must."""
    total = 0
    for place, i in enumerate(chosen):
        column = found.columns[i]
        widest = max([len(column.name), *(len(_cell(column, row[i])) for row in found.rows)])
        if place == len(chosen) - 1:
            widest = min(widest, max(FOLDED_CHARS_MIN, len(column.name)))
        total += widest + PADDING
    return total - PADDING
