"""The bytes on disk. A golden file that changes means data of released daemons that is not read any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from dwd.base.errors import Corrupt, VersionRefused
from dwd.journal.checksum import PIECE_BYTES, crc32c
from dwd.journal.frames import (
    BATCH_ALIGNMENT,
    BATCH_HEADER_BYTES,
    Frame,
    decode_head,
    decode_shape,
    encode_batch,
    segment_seed,
)
from dwd.journal.segments import SegmentHeader, decode_header, encode_header

GOLDEN = Path(__file__).parent / "golden"
JOURNAL = bytes(range(16))
HEADER = SegmentHeader(journal=JOURNAL, segment=7, first_sequence=41, content=b"content of the user")
FRAMES = (
    Frame(kind=1, group=3, replica=2**63 - 1, pieces=(b"first ", memoryview(b"payload"), bytearray(b"!"))),
    Frame(kind=255, group=0, replica=0, pieces=()),
    Frame(kind=2, group=9, replica=8, pieces=(bytes(600),)),
)


def segment_bytes() -> bytes:
    buffers, _, _ = encode_batch(FRAMES, sequence=41, segment=7, offset=4096, seed=segment_seed(JOURNAL, 7))
    return encode_header(HEADER) + b"".join(buffers)


def test_segment_has_the_released_bytes_when_encoded() -> None:
    assert segment_bytes() == (GOLDEN / "segment-v1.bin").read_bytes()


def test_released_segment_decodes() -> None:
    content = (GOLDEN / "segment-v1.bin").read_bytes()
    assert decode_header(content) == HEADER
    seed = segment_seed(JOURNAL, 7)
    shape = decode_shape(content[4096 : 4096 + BATCH_HEADER_BYTES], offset=4096, seed=seed)
    assert shape is not None
    head = decode_head(shape, content[4096:], segment=7, offset=4096, seed=seed)
    assert head is not None
    assert (head.sequence, head.end) == (41, len(content))
    assert [(f.kind, f.group, f.replica) for f in head.frames] == [(f.kind, f.group, f.replica) for f in FRAMES]
    payloads = [content[f.position.offset :][: f.position.length] for f in head.frames]
    assert payloads == [b"first payload!", b"", bytes(600)]
    assert [crc32c(p) for p in payloads] == [f.position.crc32c for f in head.frames]


def test_batches_fill_whole_sectors() -> None:
    assert len(segment_bytes()) % BATCH_ALIGNMENT == 0


def test_batch_is_not_taken_for_one_when_it_lies_elsewhere() -> None:
    content = segment_bytes()[4096:]
    seed = segment_seed(JOURNAL, 7)
    assert decode_shape(content, offset=4096, seed=seed) is not None
    assert decode_shape(content, offset=4096 + 512, seed=seed) is None
    assert decode_shape(content, offset=4096, seed=segment_seed(JOURNAL, 8)) is None
    assert decode_shape(content, offset=4096, seed=segment_seed(bytes(16), 7)) is None


def test_header_is_refused_when_damaged_or_newer() -> None:
    page = bytearray(encode_header(HEADER))
    for offset in range(56 + len(HEADER.content)):
        page[offset] ^= 1
        with pytest.raises(Corrupt):
            _ = decode_header(page)
        page[offset] ^= 1
    newer = bytearray(page)
    newer[9] = 2
    newer[52:56] = crc32c(HEADER.content, crc32c(bytes(newer[:52]))).to_bytes(4, "big")
    with pytest.raises(VersionRefused):
        _ = decode_header(newer)


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
def test_checksum_is_the_same_when_the_buffer_is_of_another_kind(size: int) -> None:
    content = bytes(n % 251 for n in range(size))
    assert crc32c(memoryview(content)) == crc32c(bytearray(content)) == crc32c(content)
    assert crc32c(b"123456789") == 0xE3069283
