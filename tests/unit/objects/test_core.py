"""What objects decide without I/O: cutting, ranges, headers, checksums of parts."""

from __future__ import annotations

import base64
import hashlib
import zlib

import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwd.base.errors import InvalidArgument
from dwd.gateway.core.crc64 import table_update
from dwd.objects.core.checksums import (
    checksum_text,
    composite,
    full_object,
    parse_checksum,
    parse_wanted,
    wanted_text,
)
from dwd.objects.core.cutter import Cutter
from dwd.objects.core.headers import decode_headers, encode_headers
from dwd.objects.core.ranges import ByteRange, RangeRequest, resolve
from dwd.objects.ports import ChecksumKind, ObjectHeaders


@given(st.lists(st.binary(max_size=50), max_size=20), st.integers(1, 16))
def test_cutter_gives_whole_blocks_in_order_when_fed_any_pieces(pieces: list[bytes], block: int) -> None:
    cutter, blocks = Cutter(block), []
    for piece in pieces:
        blocks.extend(bytes(b) for b in cutter.feed(piece))
        assert cutter.held < block
    rest = bytes(cutter.rest())
    assert all(len(b) == block for b in blocks)
    assert len(rest) < block
    assert b"".join(blocks) + rest == b"".join(pieces)


def test_cutter_copies_nothing_when_a_piece_is_a_whole_block() -> None:
    piece = bytes(8)
    (block,) = Cutter(8).feed(piece)
    assert block is piece or (isinstance(block, memoryview) and block.obj is piece)


@pytest.mark.parametrize(
    ("wanted", "size", "expected"),
    [
        (None, 10, (0, 10)),
        (RangeRequest(first=0, last=0), 10, (0, 1)),
        (RangeRequest(first=3), 10, (3, 10)),
        (RangeRequest(first=3, last=99), 10, (3, 10)),
        (RangeRequest(suffix=4), 10, (6, 10)),
        (RangeRequest(suffix=40), 10, (0, 10)),
    ],
)
def test_range_is_cut_to_the_object_when_satisfiable(
    wanted: RangeRequest | None, size: int, expected: tuple[int, int]
) -> None:
    assert resolve(wanted, size) == ByteRange(start=expected[0], end=expected[1])


@pytest.mark.parametrize(
    ("wanted", "size"), [(RangeRequest(first=10), 10), (RangeRequest(suffix=0), 10), (RangeRequest(first=0), 0)]
)
def test_range_is_refused_when_outside_the_object(wanted: RangeRequest, size: int) -> None:
    with pytest.raises(InvalidArgument) as caught:
        resolve(wanted, size)
    assert caught.value.code == "objects.range_not_satisfiable"
    assert caught.value.fields["size"] == size


def test_headers_survive_encoding_when_they_are_not_the_defaults() -> None:
    headers = ObjectHeaders(content_type="text/plain", system={"cache-control": "no-store"}, user={"név": "érték"})
    assert decode_headers(encode_headers(headers)) == headers
    assert encode_headers(ObjectHeaders()) == b""
    assert encode_headers(headers)[:1] == b"\x01"


def test_headers_are_refused_when_user_metadata_is_over_two_kib() -> None:
    with pytest.raises(InvalidArgument, match="2048"):
        encode_headers(ObjectHeaders(user={"a": "x" * 2048}))


@given(st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=6))
def test_full_object_crc_equals_the_crc_of_all_bytes_when_combined_from_parts(parts: list[bytes]) -> None:
    whole = b"".join(parts)
    for kind, function in ((ChecksumKind.CRC32, zlib.crc32), (ChecksumKind.CRC32C, google_crc32c.value)):
        texts = [(base64.b64encode(function(p).to_bytes(4)).decode(), len(p)) for p in parts]
        assert full_object(kind, texts).value == base64.b64encode(function(whole).to_bytes(4)).decode()


def test_crc64_combines_to_the_published_check_value_when_split() -> None:
    parts = (b"1234", b"56789")
    texts = [(base64.b64encode(table_update(0, p).to_bytes(8)).decode(), len(p)) for p in parts]
    whole = base64.b64decode(full_object(ChecksumKind.CRC64NVME, texts).value)
    assert whole.hex() == "ae8b14860a799888"


@pytest.mark.parametrize("kind", list(ChecksumKind))
def test_composite_checksum_is_the_hash_of_raw_part_checksums(kind: ChecksumKind) -> None:
    raw = [b"\x01" * 8, b"\x02" * 8]
    made = composite(kind, [base64.b64encode(r).decode() for r in raw])
    value, _, count = made.value.rpartition("-")
    joined = b"".join(raw)
    if kind is ChecksumKind.CRC32:
        assert base64.b64decode(value) == zlib.crc32(joined).to_bytes(4)
    elif kind is ChecksumKind.SHA256:
        assert base64.b64decode(value) == hashlib.sha256(joined).digest()
    assert count == "2"
    assert made.composite
    assert parse_checksum(checksum_text(made)) == made


def test_wanted_checksum_survives_encoding() -> None:
    for kind in (None, *ChecksumKind):
        for form in (True, False):
            expected = (kind, True if kind is None else form)
            assert parse_wanted(wanted_text(kind, composite=form)) == expected
