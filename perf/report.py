"""What was measured, as a table for people and JSON for scripts."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from perf.cluster import Memory
from perf.disk import Disk
from perf.s3_load import Result

STORED_PER_BYTE = 1.5
"""Bytes that 4+2 writes for one byte of an object."""
WRITE = "put"
FEW_MB_S = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One verb at one size and concurrency. Milliseconds; `daemon_ms` is processor time of all daemons an operation."""

    verb: str
    size: int
    concurrency: int
    operations: int
    errors: int
    ops_s: float
    mb_s: float
    p50_ms: float
    p99_ms: float
    daemon_ms: float
    client_ms: float
    peak_mib: float

    @classmethod
    def of(
        cls, verb: str, size: int, concurrency: int, result: Result, *, daemon_seconds: float, memory: Memory
    ) -> Cell:
        count = len(result.latencies)
        ordered = sorted(result.latencies) or [0.0]
        return cls(
            verb=verb,
            size=size,
            concurrency=concurrency,
            operations=count,
            errors=len(result.errors),
            ops_s=count / result.seconds,
            mb_s=count * size / result.seconds / 1e6,
            p50_ms=ordered[len(ordered) // 2] * 1e3,
            p99_ms=ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1e3,
            daemon_ms=daemon_seconds / max(1, count) * 1e3,
            client_ms=result.cpu / max(1, count) * 1e3,
            peak_mib=memory.peak_mib,
        )


@dataclass(slots=True, kw_only=True)
class Report:
    """`idle_cpu_percent` is of one core, for all daemons together."""

    disk: Disk
    idle_cpu_percent: float = 0.0
    idle_mib: float = 0.0
    cells: list[Cell] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    def disk_ratio(self, cell: Cell) -> float:
        """Of what the disk could take if the cluster only wrote its fragments to it, one after another."""
        return cell.mb_s / (self.disk.write_mb_s / STORED_PER_BYTE)

    def document(self) -> dict[str, Any]:
        found = dataclasses.asdict(self)
        for cell, values in zip(self.cells, found["cells"], strict=True):
            values["disk_ratio"] = self.disk_ratio(cell) if cell.verb == WRITE else None
        return found

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(self.document(), indent=1))

    def show(self, console: Console) -> None:
        disk = self.disk
        table = Table(title="S3 on six daemons, rs-4-2, every answer after fsync", title_justify="left")
        heads = ("", "size", "at once", "ops", "ops/s", "MB/s", "of disk", "p50 ms", "p99 ms")
        for head in (*heads, "daemons ms/op", "client ms/op", "peak MiB", "errors"):
            table.add_column(head, justify="right", no_wrap=True)
        last = self.cells[0].size if self.cells else 0
        for cell in self.cells:
            if cell.size != last:
                table.add_section()
                last = cell.size
            table.add_row(*self._row(cell))
        console.print(table)
        console.print(
            f"disk: {disk.write_mb_s:.0f} MB/s sequential with fdatasync, one fdatasync {disk.sync_ms_p50:.2f} ms "
            f"(p99 {disk.sync_ms_p99:.2f}); 'of disk' is PUT MB/s / (disk MB/s / {STORED_PER_BYTE})\n"
            f"idle: {self.idle_cpu_percent:.1f} % of a core for all daemons, the largest has {self.idle_mib:.0f} MiB",
            highlight=False,
        )
        for line in self.left_out:
            console.print(f"left out: {line}", highlight=False)

    def _row(self, cell: Cell) -> tuple[str, ...]:
        return (
            cell.verb.upper(),
            size_name(cell.size),
            str(cell.concurrency),
            str(cell.operations),
            f"{cell.ops_s:.0f}" if cell.ops_s >= FEW_MB_S else f"{cell.ops_s:.2f}",
            f"{cell.mb_s:.0f}" if cell.mb_s >= FEW_MB_S else f"{cell.mb_s:.1f}",
            f"{self.disk_ratio(cell):.0%}" if cell.verb == WRITE else "",
            f"{cell.p50_ms:.1f}",
            f"{cell.p99_ms:.1f}",
            f"{cell.daemon_ms:.2f}",
            f"{cell.client_ms:.2f}",
            f"{cell.peak_mib:.0f}",
            str(cell.errors or ""),
        )


def size_name(size: int) -> str:
    return f"{size // 2**20} MiB" if size >= 2**20 else f"{size // 2**10} KiB"
