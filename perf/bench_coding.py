"""What erasure coding costs inside the write path: processor time of the parity beside that of whole block writes.

    .venv/bin/python perf/bench_coding.py [--profile rs-4-2] [--blocks 32] [--json FILE]

Six nodes in one process, real devices with fsync, no wire and no TLS: what a daemon spends on those comes on top, so
the share of coding printed here is the most it can be. Processor time of the whole process, all threads; the blocks
are coded in turn, so that none lies in a cache.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import sys
import tempfile
import time
from pathlib import Path

import structlog

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dwd.base.ids import NodeId
from dwd.base.limits import BLOCK_BYTES
from dwd.base.policy import Policy
from dwd.base.units import MIB
from dwd.blocks.codec import encode
from dwd.blocks.core.profiles import parse_profile
from dwd.blocks.ports import Owner
from tests.twins.memory_blocks import MemoryCluster

OWNER = Owner(bucket="bench", key="k")
AT_ONCE = 4
BUFFERS = 16


async def written(folder: Path, profile: str, blocks: int) -> float:
    """Seconds of processor a block of BLOCK_BYTES."""
    data = os.urandom(BLOCK_BYTES)
    async with MemoryCluster(folder, nodes=max(6, parse_profile(profile).fragments), volume_bytes=1 << 30) as cluster:
        store = cluster.stores[NodeId(1)]

        async def some(count: int) -> None:
            for _ in range(count):
                _ = await store.write(data, policy=Policy(profile=profile), owner=OWNER, deadline=cluster.soon)

        await some(2)
        began = time.process_time()
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                _ = group.create_task(some(blocks // AT_ONCE))
        return (time.process_time() - began) / (blocks // AT_ONCE * AT_ONCE)


def coded(profile: str, blocks: int) -> float:
    """Seconds of processor a block of BLOCK_BYTES."""
    data, found = [memoryview(os.urandom(BLOCK_BYTES)) for _ in range(BUFFERS)], parse_profile(profile)
    _ = encode(found, data[0])
    began = time.process_time()
    for number in range(blocks):
        _ = encode(found, data[number % BUFFERS])
    return (time.process_time() - began) / blocks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="rs-4-2")
    parser.add_argument("--blocks", type=int, default=32)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory(prefix="dwd-coding-", dir=Path.cwd()) as folder:
        whole = asyncio.run(written(Path(folder), options.profile, options.blocks))
    coding = coded(options.profile, 4 * options.blocks)
    figures = {
        "profile": options.profile,
        "block_mib": BLOCK_BYTES / MIB,
        "coding_ms": round(coding * 1e3, 2),
        "write_ms": round(whole * 1e3, 2),
        "coding_share": round(coding / whole, 3),
    }
    print(
        f"{options.profile}, blocks of {figures['block_mib']:.0f} MiB: coding {figures['coding_ms']} ms of "
        f"{figures['write_ms']} ms of processor a block, {100 * coding / whole:.1f} %"
    )
    if options.json:
        options.json.write_text(json.dumps(figures))


if __name__ == "__main__":
    main()
