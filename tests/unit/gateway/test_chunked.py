"""The aws-chunked decoder."""

from __future__ import annotations

import itertools
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwd.base.errors import InvalidArgument
from dwd.gateway.core.chunked import LINE_BYTES_MAX, ChunkData, ChunkedDecoder, ChunkEnd


def frame(
    chunks: list[bytes], trailers: dict[str, str] | None = None, *, signed: bool = False, end: bytes = b"\r\n"
) -> bytes:
    out = b""
    for number, chunk in enumerate([*chunks, b""]):
        signature = b";chunk-signature=" + str(number).encode() if signed else b""
        out += f"{len(chunk):x}".encode() + signature + b"\r\n" + chunk + (b"\r\n" if chunk else b"")
    for name, value in (trailers or {}).items():
        out += f"{name}:{value}\r\n".encode()
    return out + end


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({0, *(cut % (len(data) + 1) for cut in cuts), len(data)})
    return [data[start:end] for start, end in itertools.pairwise(at)]


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=60), max_size=5),
    cuts=st.lists(st.integers(0, 10_000), max_size=12),
    signed=st.booleans(),
    trailers=st.sampled_from([{}, {"x-amz-checksum-crc32": "AAAAAA=="}]),
    end=st.sampled_from([b"", b"\r\n", b"\r\n\r\n"]),
)
def test_payload_comes_out_the_same_when_cut_anywhere(
    chunks: list[bytes], cuts: list[int], signed: bool, trailers: dict[str, str], end: bytes
) -> None:
    decoder = ChunkedDecoder(signed=signed, trailers=True)
    payload, ends = b"", []
    for piece in pieces(frame(chunks, trailers, signed=signed, end=end), cuts):
        for event in decoder.feed(piece):
            match event:
                case ChunkData(data):
                    payload += data
                case ChunkEnd(signature):
                    ends.append((len(payload), signature))
    decoder.finish()
    assert payload == b"".join(chunks)
    assert decoder.trailers == trailers
    sizes = [sum(map(len, chunks[: number + 1])) for number in range(len(chunks))]
    expected = [*sizes, len(payload)]
    assert [size for size, _ in ends] == expected
    assert [signature for _, signature in ends] == [str(number) if signed else "" for number in range(len(chunks) + 1)]


@pytest.mark.parametrize(
    "data",
    [
        b"", b"5\r\nhell", b"5\r\nhello\r\n", b"5\r\nhelloX\r\n0\r\n\r\n", b"-5\r\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n", b"0x5\r\nhello\r\n0\r\n\r\n", b"5_0\r\n", b"5\nhello\r\n0\r\n\r\n",
        b"\r\n5\r\nhello", b"g\r\n", b"ffffffffffffffffff\r\n", b"0\r\n\r\nmore", b"0\r\nno colon\r\n\r\n",
        b"0\r\na:b", b"0" * (LINE_BYTES_MAX + 2), b"0\r\na:" + b"b" * LINE_BYTES_MAX + b"\r\n",
        b"0\r\n" + b"".join(b"t%d:v\r\n" % number for number in range(17)) + b"\r\n",
    ],
)  # fmt: skip
def test_body_is_incomplete_when_the_frame_is_malformed(data: bytes) -> None:
    for size in (1, 7, 100_000):
        with pytest.raises(InvalidArgument) as caught:
            decode(data, size)
        assert caught.value.code == "s3.incomplete_body"


def test_chunk_is_refused_when_it_must_be_signed_and_is_not() -> None:
    decoder = ChunkedDecoder(signed=True, trailers=False)
    with pytest.raises(InvalidArgument):
        decoder.feed(b"5\r\nhello\r\n")


def test_trailer_is_refused_when_none_was_announced() -> None:
    decoder = ChunkedDecoder(signed=False, trailers=False)
    with pytest.raises(InvalidArgument):
        decoder.feed(b"0\r\nx-amz-checksum-crc32:AAAA\r\n\r\n")


@given(data=st.binary(max_size=300), size=st.integers(1, 300))
def test_decoder_never_crashes_when_fed_garbage(data: bytes, size: int) -> None:
    with suppress(InvalidArgument):
        decode(data, size)


def decode(data: bytes, size: int) -> None:
    decoder = ChunkedDecoder(signed=False, trailers=True)
    for at in range(0, len(data), size):
        decoder.feed(data[at : at + size])
    decoder.finish()
