"""The one sink for what commands print: tables for people, JSON for scripts, plain columns when piped.

Facts go to stdout, progress and errors to stderr, so that a pipe only ever carries the answer.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

from dwd.base.errors import DwError


@dataclass(slots=True, kw_only=True)
class Output:
    """How this invocation prints."""

    as_json: bool = False

    def console(self) -> Console:
        from rich.console import Console

        return Console(soft_wrap=not sys.stdout.isatty())

    def messages(self) -> Console:
        from rich.console import Console

        return Console(stderr=True)

    def value(self, document: Mapping[str, Any], human: str) -> None:
        """One fact: the JSON document, or a line for people."""
        print_line(json.dumps(document) if self.as_json else human)

    def table(self, title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], document: Any) -> None:
        """Rows for people (aligned, coloured on a terminal; tab-separated when piped), `document` for scripts."""
        if self.as_json:
            print_line(json.dumps(document))
        elif sys.stdout.isatty():
            from rich.table import Table

            table = Table(title=title, title_justify="left", header_style="bold")
            for column in columns:
                table.add_column(column, overflow="fold")
            for row in rows:
                table.add_row(*row)
            self.console().print(table)
        else:
            for row in (columns, *rows):
                print_line("\t".join(row))

    def progress(self) -> Progress:
        """A progress display on stderr; silent where nobody looks."""
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=self.messages(),
            disable=self.as_json or not sys.stderr.isatty(),
            transient=True,
        )

    def note(self, text: str) -> None:
        """A remark for people, on stderr."""
        if not self.as_json:
            self.messages().print(text, highlight=False, markup=False)

    def error(self, error: DwError) -> None:
        """What happened and what to do next, on stderr; as JSON too where scripts look."""
        if self.as_json:
            document = {
                "error": {
                    "code": error.code,
                    "message": error.message,
                    "hint": error.hint,
                    "retryable": error.retryable,
                    "fields": error.fields,
                }
            }
            sys.stderr.write(json.dumps(document) + "\n")
            return
        sys.stderr.write(f"error: {error.message} ({error.code})\n")
        if error.hint:
            sys.stderr.write(f"  next: {error.hint}\n")


def print_line(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def ask(question: str, *, yes: bool, confirm: Callable[[str], bool]) -> bool:
    """Whether to go on: `--yes` says so, a terminal is asked, anything else is a no."""
    return yes or (sys.stdin.isatty() and confirm(question))
