"""How fast a node that lost its devices is rebuilt beside the disk's own speed, and what clients wait meanwhile.

Part of `make perf`. Its own cluster of six nodes, rs-4-2, so that each block has one fragment on each node: the last
node is stopped, its device directories are emptied, and it is started again. Measured until `dwctl heal status` says
that all is fully redundant; the rate is of fragments written by healing from the first to the last. Once with idle
clients, once with clients that read and write through the other nodes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dwctl.commands.heal import ask_status
from dwctl.context import read_cluster
from dwctl.dev.layout import DevFolder
from dwctl.session import connected
from dwd.base.errors import DwError
from perf import disk, s3_load
from perf.aims import REBUILD_OF_DISK, REBUILD_P99_MAX
from perf.cluster import Cluster, dwctl

if TYPE_CHECKING:
    from dwctl.client import AdminClient
    from dwd.pb.admin.v1 import heal_pb2

KIB, MIB = 1024, 1024 * 1024
DATA = 4
BUCKET = "rebuild"
VERBS = ("get", "put")
LOOK_SECONDS = 0.2
REBUILD_SECONDS_MAX = 600.0
UNDONE_SHARE_MAX = 0.02
"""Blocks that readers healed, or that were handed elsewhere, before the count began."""
STORE_SECONDS = 300.0
STORING = 8
READ_COUNT = 64
WIDTH_IN_FILES = 170
TURN_SECONDS = 4.0
"""Of the clients: those that end after the rebuild are not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuild:
    """`seconds` from the node's start to full redundancy; `healing` from the first bytes seen written to the last."""

    seconds: float
    healing: float
    written: int
    seen: int
    """Bytes written after the first look that saw any."""

    @property
    def mb_s(self) -> float:
        return self.seen / self.healing / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """Clients' latencies in seconds, by verb."""

    before: dict[str, list[float]]
    during: dict[str, list[float]]

    def line(self) -> str:
        parts = []
        for verb in VERBS:
            before, during = p99(self.before[verb]), p99(self.during[verb])
            parts.append(
                f"{verb.upper()} {before * 1e3:.0f}, {during * 1e3:.0f} ({during / before:.2f}, {REBUILD_P99_MAX:g}; "
                f"{len(self.before[verb])}, {len(self.during[verb])} requests)"
            )
        return "; ".join(parts)


class Clients:
    """Reads and writes through all nodes but the last, in turns, until told to end."""

    def __init__(self, cluster: Cluster, options: argparse.Namespace) -> None:
        self._cluster, self._options, self._turn = cluster, options, 0
        put(cluster, "read", options.client_size, READ_COUNT)

    def once(self, seconds: float) -> dict[str, list[float]]:
        """Latencies of one turn, by verb."""
        self._turn += 1
        found: dict[str, list[float]] = {}

        def go(verb: str) -> None:
            prefix = "read" if verb == "get" else f"turn-{self._turn}"
            result = load(
                self._cluster, verb, prefix, self._options.client_size, self._options.concurrency, seconds=seconds,
                stored=READ_COUNT,
            )  # fmt: skip
            found[verb] = result.latencies
            for error in sorted(set(result.errors))[:3]:
                print(f"  {verb}: {error}", flush=True)

        together = [threading.Thread(target=go, args=(verb,)) for verb in VERBS]
        for thread in together:
            thread.start()
        for thread in together:
            thread.join()
        return found

    @contextlib.contextmanager
    def going_on(self) -> Iterator[dict[str, list[float]]]:
        """Turn after turn while the body runs; of all turns but one that outlasts it."""
        over = threading.Event()
        total: dict[str, list[float]] = {verb: [] for verb in VERBS}

        def turns() -> None:
            while not over.is_set():
                found = self.once(TURN_SECONDS)
                if over.is_set() and all(total.values()):
                    return
                for verb, latencies in found.items():
                    total[verb] += latencies

        thread = threading.Thread(target=turns)
        thread.start()
        try:
            yield total
        finally:
            over.set()
            thread.join()


def load(
    cluster: Cluster, verb: str, prefix: str, size: int, concurrency: int, *, seconds: float, count: int = 1_000_000,
    stored: int = 0,
) -> s3_load.Result:  # fmt: skip
    s3 = cluster.s3
    return s3_load.run(
        s3_load.Load(
            endpoints=s3["endpoints"][:-1], access_key=s3["access_key"], secret_key=s3["secret_key"],
            region=s3["region"], bucket=BUCKET, prefix=prefix, verb=verb, size=size, concurrency=concurrency,
            seconds=seconds, count=count, stored=stored,
        )
    )  # fmt: skip


def store(cluster: Cluster, options: argparse.Namespace) -> int:
    """What is to be rebuilt. Bytes stored."""
    s3 = cluster.s3
    client = boto3.client(
        "s3", endpoint_url=s3["endpoint"], aws_access_key_id=s3["access_key"], aws_secret_access_key=s3["secret_key"],
        region_name=s3["region"], config=Config(s3={"addressing_style": "path"}),
    )  # fmt: skip
    client.create_bucket(Bucket=BUCKET)
    count = options.mib * MIB // options.size
    put(cluster, "lost", options.size, count)
    return int(count * options.size)


def put(cluster: Cluster, prefix: str, size: int, count: int) -> None:
    result = load(cluster, "put", prefix, size, STORING, seconds=STORE_SECONDS, count=count)
    if result.errors or len(result.latencies) < count:
        sys.exit(f"stored {len(result.latencies)} of {count} objects: {result.errors[:1]}")


def rebuild(cluster: Cluster, stored_bytes: int, *, clients: bool) -> Rebuild:
    """Lose the last node's devices, and wait until all is made good; `clients`: while they go on."""
    folder, name = DevFolder(root=cluster.folder), cluster.names[-1]
    least = int(stored_bytes / DATA * (1 - UNDONE_SHARE_MAX))
    with connected(read_cluster(folder.cluster)) as client:
        dwctl(folder.root, "dev", "stop", name, "--dir", str(folder.root))
        for device in (folder.data(name) / "devices").iterdir():
            shutil.rmtree(device)
            device.mkdir()
        before, began = ask_status(client).written_bytes, time.monotonic()
        dwctl(folder.root, "dev", "start", name, "--dir", str(folder.root))
        return wait_whole(client, least, began, before, clients=clients)


def wait_whole(client: AdminClient, least: int, began: float, before: int, *, clients: bool) -> Rebuild:
    """Until at least so many bytes were written over `before` and nothing is left to do."""
    written = at_first = 0
    first = last = 0.0
    while (now := time.monotonic()) - began < REBUILD_SECONDS_MAX:
        with contextlib.suppress(DwError):  # a node that comes or goes: asked again
            found = ask_status(client)
            if found.written_bytes - before > written:
                written, last = found.written_bytes - before, now
                if not first:
                    first, at_first = now, written
            if written >= least and is_whole(found, clients=clients):
                return Rebuild(
                    seconds=now - began,
                    healing=max(last - first, LOOK_SECONDS),
                    written=written,
                    seen=written - at_first,
                )
        time.sleep(LOOK_SECONDS)
    sys.exit(f"not rebuilt after {REBUILD_SECONDS_MAX:.0f} s: {written} of {least} bytes written")


def is_whole(found: heal_pb2.HealStatusReply, *, clients: bool) -> bool:
    """Beside clients some new block is always on loan for a moment: then only what can be done now counts."""
    degraded = found.degraded and not clients
    return not (degraded or found.todo_bytes or any(node.state != "up" for node in found.nodes))


def p99(latencies: Sequence[float]) -> float:
    ordered = sorted(latencies)
    return ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] if ordered else float("nan")


def show(console: Console, disk_mb_s: float, idle: Rebuild, busy: Rebuild, waits: Waits) -> None:
    table = Table(title="A node of six lost its devices, rs-4-2", title_justify="left")
    for head in ("clients", "written MB", "whole after s", "healing s", "MB/s"):
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column(f"of the disk's {disk_mb_s:.0f} MB/s (aim)", no_wrap=True)
    table.add_column("p99 ms before, during (ratio, aim)", no_wrap=True)
    for name, found in (("idle", idle), ("active", busy)):
        ratio = f"{found.mb_s / disk_mb_s:.3f}" + (f" ({REBUILD_OF_DISK:g})" if found is idle else "")
        table.add_row(
            name, f"{found.written / 1e6:.0f}", f"{found.seconds:.1f}", f"{found.healing:.1f}", f"{found.mb_s:.1f}",
            ratio, "" if found is idle else waits.line(),
        )  # fmt: skip
    console.print(table)


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=384, help="of objects")
    parser.add_argument("--size", type=int, default=4 * MIB, help="of an object")
    parser.add_argument("--client-size", type=int, default=256 * KIB, help="of what clients read and write")
    parser.add_argument("--concurrency", type=int, default=2, help="reading clients, and as many writing ones")
    parser.add_argument("--seconds", type=float, default=12.0, help="of clients alone")
    options = parser.parse_args(list(arguments) if arguments is not None else None)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH_IN_FILES)
    scratch = Path(tempfile.mkdtemp(prefix="dwd-rebuild-"))
    with contextlib.ExitStack() as ending:
        ending.callback(shutil.rmtree, scratch, ignore_errors=True)
        console.print(f"load average {os.getloadavg()[0]:.1f}")
        write_mb_s = disk.measure(scratch).write_mb_s
        console.print(f"  disk: {write_mb_s:.0f} MB/s")
        cluster = Cluster.up(scratch / "dwd")
        ending.callback(cluster.down)
        stored = store(cluster, options)
        console.print("  stored")
        idle = rebuild(cluster, stored, clients=False)
        console.print(f"  idle: {idle}")
        clients = Clients(cluster, options)
        before = clients.once(options.seconds)
        with clients.going_on() as during:
            busy = rebuild(cluster, stored, clients=True)
        console.print(f"  active: {busy}")
        show(console, write_mb_s, idle, busy, Waits(before=before, during=during))
        console.print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
