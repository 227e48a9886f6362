"""What compression and encryption at rest save and cost: `python -m perf.bench_at_rest [FILE...]`.

Each stage on one core, in milliseconds of processor a MiB of plain bytes, beside the raw library on the same bytes in
the same run: one zstd frame, one AES-GCM message of a whole block. Blocks of 4 MiB, as uploads cut them. Given files
are measured too.
"""

from __future__ import annotations

import json
import os
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from rich.console import Console
from rich.table import Table

from dwd.base.limits import BLOCK_BYTES
from dwd.base.units import KIB, MIB
from dwd.objects.core import frames
from dwd.objects.core.packing import PackedBlock, Packer

ROUNDS = 5
LEVELS = (1, 3, 6)
FRAMES = (64 * KIB, 256 * KIB, 1 * MIB, 4 * MIB)
CIPHER = AESGCM(os.urandom(32))


def text() -> bytes:
    """The sources of this Python: what people write."""
    return sources()[:BLOCK_BYTES]


def sources() -> bytes:
    found = sorted(Path(os.__file__).parent.rglob("*.py"))[:2_000]
    return b"".join(path.read_bytes() for path in found)


def records() -> bytes:
    draw = Random(1)
    rows = (
        {
            "id": number, "user": f"u{draw.randrange(5_000)}", "at": 1.6e9 + number * draw.random(),
            "tags": [draw.choice("abcdef") * 3 for _ in range(4)], "amount": round(draw.random() * 100, 2),
        }
        for number in range(40_000)
    )  # fmt: skip
    return b"\n".join(json.dumps(row).encode() for row in rows)[:BLOCK_BYTES]


def bodies() -> dict[str, bytes]:
    return {
        "text": text(), "JSON": records(), "random": os.urandom(BLOCK_BYTES),
        "compressed": zlib.compress(sources(), 6)[:BLOCK_BYTES],
    }  # fmt: skip


def cost(work: Callable[[], Any], size: int) -> float:
    """Milliseconds of processor a MiB: the least of some rounds, which others disturb only upwards."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        work()
        best = min(best, time.process_time() - began)
    return best * 1_000 / (size / MIB)


def measured(name: str, data: bytes, level: int, *, sealed: bool) -> tuple[str, ...]:
    packer = Packer(level=level, cipher=CIPHER if sealed else None)
    packed = packer.pack(data, 0)
    stored = bytes(packed.data)
    back, table, part = 0.0, None, 0.0
    if packed.packing:
        block = PackedBlock(
            packing=packed.packing, length=len(stored), plain_length=len(data), position=0,
            cipher=CIPHER if sealed else None,
        )  # fmt: skip
        back = cost(lambda: block.unpack(stored, 0, len(data), None), len(data))
        where = block.table_span()
        table = None if where is None else block.read_table(stored[slice(*where)])
        middle = len(data) // 2
        first, last = block.span(middle, middle + 4_096, table)
        piece = stored[first:last]
        part = cost(lambda: block.unpack(piece, middle, middle + 4_096, table), MIB)
    what = f"zstd:{level}" * bool(level) + " + " * bool(level and sealed) + "AES-256-GCM" * sealed
    return (
        name, what, f"{len(stored) / len(data):.3f}", f"{cost(lambda: packer.pack(data, 0), len(data)):.2f}",
        f"{back:.2f}" if packed.packing else "-", f"{part * 1_000:.0f}" if packed.packing else "-",
    )  # fmt: skip


def raw(name: str, data: bytes) -> list[tuple[str, ...]]:
    """The libraries alone."""
    rows: list[tuple[str, ...]] = []
    for level in LEVELS:
        made = zstandard.ZstdCompressor(level=level).compress(data)
        rows.append((
            name, f"raw zstd:{level}", f"{len(made) / len(data):.3f}",
            f"{cost(lambda level=level: zstandard.ZstdCompressor(level=level).compress(data), len(data)):.2f}",
            f"{cost(lambda made=made: zstandard.ZstdDecompressor().decompress(made), len(data)):.2f}", "",
        ))  # fmt: skip
    sealed, nonce = CIPHER.encrypt(bytes(12), data, b""), bytes(12)
    rows.append((
        name, "raw AES-256-GCM", f"{len(sealed) / len(data):.3f}",
        f"{cost(lambda: CIPHER.encrypt(nonce, data, b''), len(data)):.2f}",
        f"{cost(lambda: CIPHER.decrypt(nonce, sealed, b''), len(data)):.2f}", "",
    ))  # fmt: skip
    return rows


def frame_sizes(name: str, data: bytes) -> list[tuple[str, ...]]:
    """What smaller frames cost in ratio: the reason for FRAME_BYTES."""
    rows: list[tuple[str, ...]] = []
    for level in LEVELS:
        compressor = zstandard.ZstdCompressor(level=level)
        ratios = (
            sum(len(compressor.compress(data[at : at + size])) for at in range(0, len(data), size)) / len(data)
            for size in FRAMES
        )
        rows.append((name, f"zstd:{level}", *(f"{ratio:.3f}" for ratio in ratios)))
    return rows


def main() -> None:
    found = bodies() | {Path(name).name: Path(name).read_bytes()[:BLOCK_BYTES] for name in sys.argv[1:]}
    console = Console(width=110)
    table = Table(
        "bytes", "what", "stored", "write ms/MiB", "read ms/MiB", "4 KiB range us",
        title="At rest: one core, blocks of 4 MiB",
    )  # fmt: skip
    for name, data in found.items():
        for row in raw(name, data):
            table.add_row(*row, style="dim")
        for level in (0, *LEVELS):
            for sealed in (False, True):
                if level or sealed:
                    table.add_row(*measured(name, data, level, sealed=sealed))
        table.add_section()
    console.print(table)
    sizes = Table("bytes", "level", *(f"{size // KIB} KiB" for size in FRAMES), title="Stored, by size of frames")
    for name in ("text", "JSON"):
        for row in frame_sizes(name, found[name]):
            sizes.add_row(*row)
    console.print(sizes)
    console.print(f"frames of {frames.FRAME_BYTES // KIB} KiB are used")


if __name__ == "__main__":
    main()
