"""`make perf`: what a six-node cluster does through S3, beside what the disk does, in one table.

Starts its own cluster in a temporary directory (or takes the one of `--dir`, which it leaves running), loads it with a
fast client from another process, and ends it. `--quick` takes about a minute and leaves out the largest objects.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import boto3
from botocore.config import Config
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from perf import disk, s3_load
from perf.cluster import Cluster
from perf.report import Cell, Report, size_name

KIB, MIB = 1024, 1024 * 1024
SIZES = (4 * KIB, 64 * KIB, MIB, 16 * MIB, 128 * MIB)
CONCURRENCIES = (1, 16, 64)
IN_FLIGHT_BYTES_MAX = 2048 * MIB
"""Cells that would hold more in the client and on the wire at once are left out."""
WARM_COUNT = 64
WIDTH_IN_FILES = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long one cell may take and how much it may store."""

    sizes: tuple[int, ...]
    concurrencies: tuple[int, ...]
    seconds: float
    put_bytes_max: int
    get_bytes_max: int
    idle_seconds: float


FULL = Plan(
    sizes=SIZES, concurrencies=CONCURRENCIES, seconds=6.0, put_bytes_max=1024 * MIB, get_bytes_max=2048 * MIB,
    idle_seconds=10.0,
)  # fmt: skip
QUICK = Plan(
    sizes=SIZES[:4], concurrencies=CONCURRENCIES, seconds=2.0, put_bytes_max=256 * MIB, get_bytes_max=512 * MIB,
    idle_seconds=3.0,
)  # fmt: skip


class Measurement:
    """One run over all cells of a plan."""

    def __init__(self, cluster: Cluster, plan: Plan, report: Report, console: Console, *, processes: int) -> None:
        self._cluster, self._plan, self._report, self._console = cluster, plan, report, console
        self._processes = processes
        self._bucket = f"perf-{time.time_ns():x}"

    def run(self) -> None:
        self._idle()
        self._make_bucket()
        self._load("warm", "put", 4 * KIB, 16, count=WARM_COUNT)
        for size in self._plan.sizes:
            for concurrency in self._plan.concurrencies:
                if size * concurrency > IN_FLIGHT_BYTES_MAX:
                    self._report.left_out.append(
                        f"{size_name(size)} at {concurrency}: over {size_name(IN_FLIGHT_BYTES_MAX)} at once"
                    )
                else:
                    self._pair(size, concurrency)

    def _idle(self) -> None:
        """What the daemons use when nobody asks for anything."""
        before, began = self._cluster.cpu_seconds(), time.monotonic()
        time.sleep(self._plan.idle_seconds)
        used = self._cluster.cpu_seconds() - before
        self._report.idle_cpu_percent = used / (time.monotonic() - began) * 100
        self._report.idle_mib = self._cluster.memory().now_mib

    def _make_bucket(self) -> None:
        s3 = self._cluster.s3
        client = boto3.client(
            "s3",
            endpoint_url=s3["endpoint"],
            aws_access_key_id=s3["access_key"],
            aws_secret_access_key=s3["secret_key"],
            region_name=s3["region"],
            config=Config(s3={"addressing_style": "path"}),
        )
        client.create_bucket(Bucket=self._bucket)

    def _pair(self, size: int, concurrency: int) -> None:
        """Store objects, then read the same ones back."""
        prefix = f"{size}-{concurrency}"
        plan = self._plan
        put = self._load(prefix, "put", size, concurrency, count=max(concurrency, plan.put_bytes_max // size))
        stored = put.operations // self._processes * self._processes
        if put.errors == 0 and stored:
            count = max(concurrency, plan.get_bytes_max // size)
            self._load(prefix, "get", size, concurrency, count=count, stored=stored)

    def _load(self, prefix: str, verb: str, size: int, concurrency: int, *, count: int, stored: int = 0) -> Cell:
        s3 = self._cluster.s3
        load = s3_load.Load(
            endpoints=s3["endpoints"],
            access_key=s3["access_key"],
            secret_key=s3["secret_key"],
            region=s3["region"],
            bucket=self._bucket,
            prefix=prefix,
            verb=verb,
            size=size,
            concurrency=concurrency,
            seconds=self._plan.seconds,
            count=count,
            stored=stored,
        )
        self._cluster.forget_peak()
        before = self._cluster.cpu_seconds()
        result = s3_load.run(load, processes=min(self._processes, concurrency))
        used = self._cluster.cpu_seconds() - before
        memory = self._cluster.memory()
        cell = Cell.of(verb, size, concurrency, result, daemon_seconds=used, memory=memory)
        if prefix != "warm":
            self._report.cells.append(cell)
            self._console.print(
                f"  {verb} {size_name(size)} at {concurrency}: {cell.ops_s:.0f}/s, {cell.mb_s:.1f} MB/s, "
                f"p99 {cell.p99_ms:.0f} ms, {cell.daemon_ms:.2f} ms of daemons an operation",
                highlight=False,
            )
        for error in sorted(set(result.errors))[:3]:
            self._console.print(f"  [red]{error}[/]", highlight=False)
        return cell


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about a minute")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    parser.add_argument("--dir", type=Path, help="measure the running cluster of this directory")
    parser.add_argument("--sizes", type=int, nargs="+", help="object sizes in bytes")
    parser.add_argument("--concurrencies", type=int, nargs="+", help="requests at once")
    parser.add_argument("--processes", type=int, default=1, help="client processes")
    options = parser.parse_args(list(arguments) if arguments is not None else None)
    chosen = QUICK if options.quick else FULL
    plan = Plan(
        sizes=tuple(options.sizes or chosen.sizes),
        concurrencies=tuple(options.concurrencies or chosen.concurrencies),
        seconds=chosen.seconds,
        put_bytes_max=chosen.put_bytes_max,
        get_bytes_max=chosen.get_bytes_max,
        idle_seconds=chosen.idle_seconds,
    )
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH_IN_FILES)
    folder = options.dir or Path(tempfile.mkdtemp(prefix="dwd-perf-"))
    cluster = Cluster.existing(folder) if options.dir else Cluster.up(folder)
    try:
        report = Report(disk=disk.measure(folder))
        Measurement(cluster, plan, report, console, processes=options.processes).run()
        report.show(console)
        if options.json:
            report.write(options.json)
    finally:
        if not options.dir:
            cluster.down()
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(1 if any(cell.errors for cell in report.cells) else 0)


if __name__ == "__main__":
    main()
