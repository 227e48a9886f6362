"""The one sink for what commands print: tables for people, JSON for scripts, plain columns when piped.

Facts go to stdout, progress and errors to stderr, so that a pipe only ever carries the answer.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

from dwctl.tables import Table, for_terminal, plain
from dwd.base.errors import DwError, SafetyRefused
from dwd.base.exits import report


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """How this invocation prints."""

    as_json: bool = False

    def console(self) -> Console:
        from rich.console import Console

        return Console(highlight=False)

    def messages(self) -> Console:
        from rich.console import Console

        return Console(stderr=True, highlight=False)

    def value(self, document: Mapping[str, Any], human: str) -> None:
        """One fact: the JSON document, or a line for people."""
        print_line(json.dumps(document) if self.as_json else human)

    def table(self, found: Table, document: Mapping[str, Any]) -> None:
        """Rows for people (aligned, coloured on a terminal; tab-separated when piped), `document` for scripts."""
        if self.as_json:
            print_line(json.dumps(document))
        elif not sys.stdout.isatty():
            for line in plain(found):
                print_line(line)
        elif found.rows:
            console = self.console()
            console.print(for_terminal(found, console.width))
        else:
            print_line(f"no {found.title}")

    def progress(self, *, unit: str = "bytes") -> Progress:
        """A progress display on stderr; silent where nobody looks."""
        from rich import progress as parts

        if unit == "bytes":
            counts: tuple[parts.ProgressColumn, ...] = (parts.DownloadColumn(), parts.TransferSpeedColumn())
        else:
            counts = (parts.MofNCompleteColumn(), parts.TextColumn(unit))
        return parts.Progress(
            parts.TextColumn("{task.description}", markup=False),
            parts.BarColumn(),
            *counts,
            parts.TimeRemainingColumn(),
            console=self.messages(),
            disable=self.as_json or not sys.stderr.isatty(),
            transient=True,
        )

    def note(self, text: str) -> None:
        """A remark for people, on stderr."""
        if not self.as_json:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    @contextmanager
    def steps(self) -> Iterator[Callable[[str], None]]:
        """Takes what is being done now: a line with a spinner on a terminal, else a line each; nothing for scripts."""
        if self.as_json or not sys.stderr.isatty():
            yield self.note
            return
        from rich.markup import escape

        with self.messages().status("starting") as status:
            yield lambda text: status.update(escape(text))

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
        sys.stderr.write(report(error))


def print_line(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def confirm(question: str, *, yes: bool) -> None:
    """Ask a person at a terminal; a script has said what it wants. Raises SafetyRefused when the answer is no."""
    if yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise SafetyRefused("dwctl.not_confirmed", "nothing was done", hint="answer y, or say --yes")
