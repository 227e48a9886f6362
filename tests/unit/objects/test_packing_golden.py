"""Blocks as released daemons packed them. A golden file that changes means objects that cannot be read any more."""

from __future__ import annotations

from pathlib import Path

import pytest
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dwd.base.errors import VersionRefused
from dwd.objects.core.packing import SEALED, ZSTD, PackedBlock, Packer, is_packed_type

GOLDEN = Path(__file__).parent / "golden"
PLAIN = b"".join(b"line %d of a golden block\n" % number for number in range(400))
CIPHER = AESGCM(bytes(range(32)))


@pytest.mark.parametrize(("name", "packing"), [("zstd", ZSTD), ("sealed", SEALED), ("zstd-sealed", ZSTD | SEALED)])
def test_blocks_of_version_1_are_read(name: str, packing: int) -> None:
    stored = (GOLDEN / f"block-{name}-v1.bin").read_bytes()
    block = PackedBlock(
        packing=packing, length=len(stored), plain_length=len(PLAIN), position=1 << 22,
        cipher=CIPHER if packing & SEALED else None,
    )  # fmt: skip
    assert bytes(block.unpack(stored, 0, len(PLAIN), None)) == PLAIN


def test_sealed_bytes_are_those_of_version_1_when_sealed_again() -> None:
    """Position is the nonce and key and facts are the same, so nothing is left to chance."""
    made = Packer(level=0, cipher=CIPHER).pack(PLAIN, 1 << 22)
    assert bytes(made.data) == (GOLDEN / "block-sealed-v1.bin").read_bytes()


def test_any_zstd_tool_unpacks_a_compressed_block() -> None:
    stored = (GOLDEN / "block-zstd-v1.bin").read_bytes()
    reader = zstandard.ZstdDecompressor().stream_reader(stored, read_across_frames=True)
    assert reader.read() == PLAIN


def test_a_packing_that_is_not_known_is_refused_by_name() -> None:
    with pytest.raises(VersionRefused) as caught:
        PackedBlock(packing=4, length=10, plain_length=10, position=0, cipher=None)
    assert caught.value.code == "objects.packing_unknown"


@pytest.mark.parametrize(
    ("kind", "encoding", "packed"),
    [
        ("video/mp4", "", True), ("IMAGE/JPEG", "", True), ("image/svg+xml", "", False), ("text/plain", "", False),
        ("text/plain", "gzip", True), ("text/plain", "identity", False), ("application/gzip", "", True),
        ("application/octet-stream", "", False),
    ],
)  # fmt: skip
def test_types_that_are_compressed_already_are_known(kind: str, encoding: str, packed: bool) -> None:
    assert is_packed_type(kind, encoding) is packed
