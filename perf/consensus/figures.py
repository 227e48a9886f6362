"""What was measured, as tables for people and JSON for scripts."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

YARDSTICK = "etcd"


@dataclass(slots=True, kw_only=True)
class Cell:
    """One system, verb and concurrency over all rounds. `member_cpu` is of all members, seconds."""

    system: str
    verb: str
    concurrency: int
    seconds: float = 0.0
    member_cpu: float = 0.0
    client_cpu: float = 0.0
    errors: int = 0
    latencies: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)
    """Of each round."""

    def add(self, answer: dict[str, Any], member_cpu: float) -> None:
        self.seconds += answer["seconds"]
        self.client_cpu += answer["cpu"]
        self.member_cpu += member_cpu
        self.errors += answer["errors"]
        self.latencies += answer["latencies"]
        self.rates.append(len(answer["latencies"]) / answer["seconds"])

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds if self.seconds else 0.0

    def quantile_ms(self, share: float) -> float:
        ordered = sorted(self.latencies) or [0.0]
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] * 1e3

    def member_us(self) -> float:
        return self.member_cpu / max(1, len(self.latencies)) * 1e6

    def client_us(self) -> float:
        return self.client_cpu / max(1, len(self.latencies)) * 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Failover:
    """Seconds from what was done to the leader to the end of the first write begun after it."""

    system: str
    what: str
    seconds: tuple[float, ...]


@dataclass(slots=True, kw_only=True)
class Figures:
    cells: list[Cell] = field(default_factory=list)
    failovers: list[Failover] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def cell(self, system: str, verb: str, concurrency: int) -> Cell:
        for known in self.cells:
            if (known.system, known.verb, known.concurrency) == (system, verb, concurrency):
                return known
        self.cells.append(Cell(system=system, verb=verb, concurrency=concurrency))
        return self.cells[-1]

    def ratio(self, cell: Cell) -> float | None:
        """Of the yardstick's rate: the median over rounds, each against the yardstick in that round."""
        other = next(
            (c for c in self.cells
             if (c.system, c.verb, c.concurrency) == (YARDSTICK, cell.verb, cell.concurrency)), None,
        )  # fmt: skip
        if other is None or other is cell or not all(other.rates):
            return None
        return statistics.median(mine / theirs for mine, theirs in zip(cell.rates, other.rates, strict=False))

    def write(self, path: Path) -> None:
        document = {
            "cells": [
                {
                    **{k: v for k, v in dataclasses.asdict(cell).items() if k != "latencies"},
                    "count": len(cell.latencies), "rate": cell.rate, "p50_ms": cell.quantile_ms(0.5),
                    "p99_ms": cell.quantile_ms(0.99), "member_us": cell.member_us(), "ratio": self.ratio(cell),
                }
                for cell in self.cells
            ],
            "failovers": [dataclasses.asdict(failover) for failover in self.failovers],
            "notes": self.notes,
        }  # fmt: skip
        path.write_text(json.dumps(document, indent=1))

    def show(self, console: Console) -> None:
        if self.cells:
            console.print(self._rates())
        if self.failovers:
            console.print(self._failovers())
        for note in self.notes:
            console.print(note, highlight=False, soft_wrap=True)

    def _rates(self) -> Table:
        table = Table(title="Three members, 256-byte values, one client process", title_justify="left")
        for head in (
            "",
            "at once",
            "system",
            "a second",
            "of etcd",
            "p50 ms",
            "p99 ms",
            "members us",
            "client us",
            "errors",
        ):
            table.add_column(head, justify="left" if head in {"", "system"} else "right", no_wrap=True)
        last = ("", 0)
        for cell in sorted(self.cells, key=lambda c: (c.verb != "put", c.concurrency)):
            here = (cell.verb, cell.concurrency)
            if last not in {("", 0), here}:
                table.add_section()
            ratio = self.ratio(cell)
            table.add_row(
                *(("commits" if cell.verb == "put" else "reads", str(cell.concurrency)) if here != last else ("", "")),
                cell.system, f"{cell.rate:.0f}", "" if ratio is None else f"{ratio:.2f}",
                f"{cell.quantile_ms(0.5):.2f}", f"{cell.quantile_ms(0.99):.2f}",
                f"{cell.member_us():.0f}", f"{cell.client_us():.0f}", str(cell.errors or ""),
            )  # fmt: skip
            last = here
        return table

    def _failovers(self) -> Table:
        table = Table(
            title="Leader gone: until the first write begun after it succeeded, seconds", title_justify="left"
        )
        for head in ("", "system", "times", "median", "best", "worst"):
            table.add_column(head, justify="left" if head in {"", "system"} else "right", no_wrap=True)
        for failover in sorted(self.failovers, key=lambda f: f.what):
            table.add_row(failover.what, failover.system, *_summary(failover.seconds))
        return table


def _summary(seconds: Sequence[float]) -> Iterable[str]:
    if not seconds:
        return ("0", "", "", "")
    return (str(len(seconds)), *(f"{value:.2f}" for value in (statistics.median(seconds), min(seconds), max(seconds))))
