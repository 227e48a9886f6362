"""What a device that answers slowly but does not fail does to reads: p99 of GETs while one takes 500 ms more.

Part of `make perf`. Its own cluster of six nodes, rs-4-2; the delay comes from the fault rules of development clusters
(`dwd/node/faults.py`). Turns healthy and slow alternate, so that noise of a shared machine hits both.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import boto3
from botocore.config import Config

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dwctl.dev import cluster as dev
from dwctl.dev.layout import DevFolder
from perf import s3_load
from perf.cluster import Cluster

MIB = 1024 * 1024
SLOW_MS = 500
STORED = 64
BUCKET = "slow"
SETTLE_SECONDS = 1.0
RATIO_MAX = 2.0


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=MIB)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=8.0, help="of one turn")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args(list(arguments) if arguments is not None else None)
    folder = Path(tempfile.mkdtemp(prefix="dwd-slow-"))
    rules = folder / "faults.json"
    cluster = None
    try:
        document = dev.up(
            DevFolder(root=folder / "dwd"), nodes=6, profile="rs-4-2", report=lambda _: None,
            options=("--faults", str(rules)),
        )  # fmt: skip
        cluster = Cluster(folder / "dwd", document)
        found = measure(cluster, document, rules, options)
    finally:
        if cluster is not None:
            cluster.down()
        shutil.rmtree(folder, ignore_errors=True)
    healthy, slow = (statistics.median(times) for times in found)
    print(
        f"GET {options.size // 1024} KiB at {options.concurrency}, one device of six {SLOW_MS} ms slower: "
        f"p99 {slow * 1e3:.0f} ms, without {healthy * 1e3:.0f} ms: {slow / healthy:.2f} (aim below {RATIO_MAX:g})"
    )


def measure(
    cluster: Cluster, document: dict[str, object], rules: Path, options: argparse.Namespace
) -> tuple[list[float], list[float]]:
    """p99 of each healthy turn and of each slow one."""
    s3 = cluster.s3
    client = boto3.client(
        "s3", endpoint_url=s3["endpoint"], aws_access_key_id=s3["access_key"], aws_secret_access_key=s3["secret_key"],
        region_name=s3["region"], config=Config(s3={"addressing_style": "path"}),
    )  # fmt: skip
    client.create_bucket(Bucket=BUCKET)
    nodes: list[dict[str, str]] = document["nodes"]  # type: ignore[assignment]
    load(cluster, "put", options, count=STORED)
    load(cluster, "get", options, stored=STORED)
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(options.rounds):
        for turn, delay in enumerate((0, SLOW_MS)):
            fresh = rules.with_suffix(".new")
            fresh.write_text(json.dumps({"slow_ms": {nodes[2]["id"]: delay}}))
            fresh.rename(rules)
            time.sleep(SETTLE_SECONDS)
            times = sorted(load(cluster, "get", options, stored=STORED).latencies)
            found[turn].append(times[int(len(times) * 0.99)])
            print(
                f"  {'slow' if turn else 'healthy'}: {len(times)} reads, p50 {times[len(times) // 2] * 1e3:.0f} ms, "
                f"p99 {found[turn][-1] * 1e3:.0f} ms",
                flush=True,
            )
    return found


def load(
    cluster: Cluster, verb: str, options: argparse.Namespace, *, count: int = 1_000_000, stored: int = 0
) -> s3_load.Result:
    s3 = cluster.s3
    return s3_load.run(
        s3_load.Load(
            endpoints=s3["endpoints"], access_key=s3["access_key"], secret_key=s3["secret_key"], region=s3["region"],
            bucket=BUCKET, prefix="o", verb=verb, size=options.size, concurrency=options.concurrency,
            seconds=options.seconds if verb == "get" else 60.0, count=count, stored=stored,
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
