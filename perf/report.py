"""What was measured, as a table for people and JSON for scripts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from perf.aims import AIMS, DISK, HEALTHY, MEMORY_MIB_MAX, PEER, STORED_PER_BYTE, STREAM, Aim
from perf.cluster import Memory
from perf.disk import Disk
from perf.limits import DATA, PARITY, Limits
from perf.s3_load import Result

OURS = "dwd"
SMALL_BYTES_MAX = 256 * 1024
"""Up to here requests a second are compared, above it bytes."""
FEW = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One verb at one size and concurrency, of one system. Milliseconds; `server_ms` is processor time of all its
    processes an operation; `peak_mib` of the largest daemon of ours, of all processes of others.
    """

    system: str
    verb: str
    size: int
    concurrency: int
    degraded: bool = False
    operations: int
    errors: int
    ops_s: float
    mb_s: float
    p50_ms: float
    p99_ms: float
    server_ms: float
    client_ms: float
    peak_mib: float

    @classmethod
    def of(
        cls, system: str, verb: str, size: int, concurrency: int, result: Result, *, server_seconds: float,
        memory: Memory, degraded: bool = False,
    ) -> Cell:  # fmt: skip
        count = len(result.latencies)
        ordered = sorted(result.latencies) or [0.0]
        return cls(
            system=system,
            verb=verb,
            size=size,
            concurrency=concurrency,
            degraded=degraded,
            operations=count,
            errors=len(result.errors),
            ops_s=count / result.seconds,
            mb_s=count * size / result.seconds / 1e6,
            p50_ms=ordered[len(ordered) // 2] * 1e3,
            p99_ms=ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * 1e3,
            server_ms=server_seconds / max(1, count) * 1e3,
            client_ms=result.cpu / max(1, count) * 1e3,
            peak_mib=memory.peak_mib,
        )

    @property
    def rate(self) -> float:
        return self.ops_s if self.size <= SMALL_BYTES_MAX else self.mb_s

    def key(self) -> tuple[str, int, int]:
        return (self.verb, self.size, self.concurrency)


@dataclass(slots=True, kw_only=True)
class Report:
    """`idle_cpu_percent` is of one core, for all daemons together."""

    disk: Disk
    limits: Limits
    idle_cpu_percent: float = 0.0
    idle_mib: float = 0.0
    cells: list[Cell] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def yardstick(self, aim: Aim, cell: Cell) -> float | None:
        """What the aim is measured by, in the cell's unit; None when it was not measured."""
        match aim.yardstick:
            case value if value == PEER:
                return self._rate_of(PEER, cell)
            case value if value == HEALTHY:
                return self._rate_of(OURS, cell)
            case value if value == DISK:
                return self.disk.write_mb_s / STORED_PER_BYTE
            case value if value == STREAM:
                return self.limits.stream_mb_s
            case _:
                return None

    def judged(self, cell: Cell) -> Iterator[tuple[Aim, float]]:
        """The aims of one of our cells, each with the ratio reached."""
        for aim in AIMS:
            if cell.system == OURS and aim.covers(cell.verb, cell.size, degraded=cell.degraded):
                of = self.yardstick(aim, cell)
                if of:
                    yield aim, cell.rate / of

    def document(self) -> dict[str, Any]:
        found = dataclasses.asdict(self)
        for cell, values in zip(self.cells, found["cells"], strict=True):
            values["ratios"] = {aim.yardstick: {"ratio": ratio, "aim": aim.ratio} for aim, ratio in self.judged(cell)}
        return found

    def write(self, path: Path) -> None:
        path.write_text(json.dumps(self.document(), indent=1))

    def show(self, console: Console) -> None:
        table = Table(title="S3 on six daemons, rs-4-2, every answer after fsync", title_justify="left")
        for head in ("", "size", "at once", "dwd", "peer", "p50 ms", "p99 ms", "server ms", "peer ms", "peak MiB"):
            table.add_column(head, justify="right", no_wrap=True)
        table.add_column("of the yardstick (aim)", no_wrap=True)
        last = 0
        for cell in self.cells:
            if cell.system != OURS:
                continue
            if cell.size != last:
                table.add_section()
                last = cell.size
            table.add_row(*self._row(cell))
        console.print(table)
        disk, limits = self.disk, self.limits
        for line in (
            _disk_line(disk),
            f"{DATA}+{PARITY}: ISA-L {limits.isal_mb_s:.0f} MB/s as writes call it, pyeclib {limits.pyeclib_mb_s:.0f}",
            f"one mutual-TLS gRPC stream: {limits.stream_mb_s:.0f} MB/s, {limits.stream_ms_mib:.2f} ms of CPU a MiB",
            f"idle: {self.idle_cpu_percent:.1f} % of a core for all daemons, the largest has {self.idle_mib:.0f} MiB",
            f"memory: the largest daemon peaked at {self._peak():.0f} MiB (aim {MEMORY_MIB_MAX})",
            *self.notes,
        ):
            console.print(line, highlight=False)

    def _row(self, cell: Cell) -> tuple[str, ...]:
        peer = self._cell_of(PEER, cell)
        judged = ", ".join(f"{ratio:.2f} of {aim.yardstick} ({aim.ratio:g})" for aim, ratio in self.judged(cell))
        errors = f"; {cell.errors} errors" if cell.errors else ""
        return (
            f"{cell.verb.upper()}{', two dead' if cell.degraded else ''}",
            size_name(cell.size),
            str(cell.concurrency),
            _rate(cell),
            _rate(peer) if peer and not cell.degraded else "",
            f"{cell.p50_ms:.1f}",
            f"{cell.p99_ms:.1f}",
            f"{cell.server_ms:.2f}",
            f"{peer.server_ms:.2f}" if peer and not cell.degraded else "",
            f"{cell.peak_mib:.0f}",
            judged + errors,
        )

    def _peak(self) -> float:
        return max((cell.peak_mib for cell in self.cells if cell.system == OURS), default=0.0)

    def _rate_of(self, system: str, cell: Cell) -> float | None:
        found = self._cell_of(system, cell)
        return found.rate if found else None

    def _cell_of(self, system: str, cell: Cell) -> Cell | None:
        matching = (c for c in self.cells if c.system == system and not c.degraded and c.key() == cell.key())
        return next(matching, None)


def _rate(cell: Cell) -> str:
    number = f"{cell.rate:.0f}" if cell.rate >= FEW else f"{cell.rate:.1f}"
    return f"{number}/s" if cell.size <= SMALL_BYTES_MAX else f"{number} MB/s"


def _disk_line(disk: Disk) -> str:
    return (
        f"disk: {disk.write_mb_s:.0f} MB/s sequential with fdatasync, {disk.read_mb_s:.0f} MB/s read; "
        f"one fdatasync {disk.sync_ms_p50:.2f} ms (p99 {disk.sync_ms_p99:.2f})"
    )


def size_name(size: int) -> str:
    return f"{size // 2**20} MiB" if size >= 2**20 else f"{size // 2**10} KiB"
