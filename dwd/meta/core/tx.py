"""What state machines and queries need of a database: a transaction someone else opened and will end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from dwd.base.ids import LogIndex, Stamp

Value = int | str | bytes | None
"""What a column may hold."""
INTEGER_MIN, INTEGER_MAX = -(1 << 63), (1 << 63) - 1
"""Numbers a column may hold."""
Row = tuple[Any, ...]
"""As the library hands it out; the reader of each statement knows its columns."""


class Reader(Protocol):
    """Statements of one read transaction. A result is read out, or left, before the next statement runs."""

    def rows(self, sql: str, bindings: Sequence[Value] = ()) -> Iterator[Row]: ...

    def row(self, sql: str, bindings: Sequence[Value] = ()) -> Row | None:
        """The first row."""
        ...


class Tx(Reader, Protocol):
    """Statements of one write transaction."""

    def run(self, sql: str, bindings: Sequence[Value] = ()) -> None: ...

    def run_many(self, sql: str, bindings: Sequence[Sequence[Value]]) -> None: ...

    def changed(self) -> int:
        """Rows changed by the last `run`."""
        ...

    def changes(self) -> int:
        """Rows changed since the connection was opened: says whether a command has begun to write."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class At:
    """The slot of the log a command stands in."""

    index: LogIndex
    stamp: Stamp
