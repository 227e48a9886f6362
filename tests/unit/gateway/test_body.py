"""Bodies from pieces on a socket to verified buffers."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import zlib
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwd.base.errors import DwError
from dwd.base.limits import BLOCK_BYTES
from dwd.gateway.body import HEAD_BYTES, SMALL_BODY_BYTES, BodySource, UploadBody
from dwd.gateway.core.payload import PayloadPlan, plan_payload
from dwd.gateway.core.verification import ChunkSigning
from dwd.objects.ports import Checksum, ChecksumKind

SIGNING = ChunkSigning(key=b"k" * 32, stamp="20240101T000000Z", scope="20240101/r/s3/aws4_request", seed="ab" * 32)
EMPTY = hashlib.sha256().hexdigest()


class Pieces:
    def __init__(self, data: bytes, size: int) -> None:
        self._pieces = [data[at : at + size] for at in range(0, len(data), size)]

    async def read(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


@pytest.fixture(scope="module")
def executor() -> AsyncIterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as pool:
        yield pool


def crc32(data: bytes) -> str:
    return base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()


def sign(text: str) -> str:
    return hmac.digest(SIGNING.key, text.encode(), "sha256").hex()


def chunk_signed(data: bytes, size: int, trailers: dict[str, str] | None = None) -> bytes:
    previous, out = SIGNING.seed, b""
    for chunk in [*(data[at : at + size] for at in range(0, len(data), size)), b""]:
        previous = sign(
            f"AWS4-HMAC-SHA256-PAYLOAD\n{SIGNING.stamp}\n{SIGNING.scope}\n{previous}\n{EMPTY}\n"
            f"{hashlib.sha256(chunk).hexdigest()}"
        )
        out += f"{len(chunk):x};chunk-signature={previous}\r\n".encode() + chunk + (b"\r\n" if chunk else b"")
    if trailers is not None:
        lines = "".join(f"{name}:{value}\n" for name, value in trailers.items())
        digest = hashlib.sha256(lines.encode()).hexdigest()
        last = sign(f"AWS4-HMAC-SHA256-TRAILER\n{SIGNING.stamp}\n{SIGNING.scope}\n{previous}\n{digest}")
        out += lines.replace("\n", "\r\n").encode() + f"x-amz-trailer-signature:{last}\r\n".encode()
    return out + b"\r\n"


def body_of(
    source: BodySource,
    plan: PayloadPlan,
    executor: ThreadPoolExecutor | None,
    *,
    signing: ChunkSigning | None = SIGNING,
    filling: asyncio.Semaphore | None = None,
    seconds: float = 20.0,
    step_seconds: float = 20.0,
) -> UploadBody:
    return UploadBody(
        source,
        plan,
        signing,
        executor,
        filling=filling or asyncio.Semaphore(1),
        seconds_for=lambda _: seconds,
        step_seconds=step_seconds,
    )


async def read(
    raw: bytes,
    headers: dict[str, str],
    *,
    payload: str = "UNSIGNED-PAYLOAD",
    size: int = 65_536,
    executor: ThreadPoolExecutor | None = None,
) -> tuple[bytes, list[int], Checksum | None]:
    body = body_of(Pieces(raw, size), plan_payload(headers, payload), executor)
    sizes, data = [], b""
    async for chunk in body.chunks():
        sizes.append(len(chunk))
        data += chunk
    return data, sizes, body.checksum()


async def failure(raw: bytes, headers: dict[str, str], **how: object) -> str:
    with pytest.raises(DwError) as caught:
        await read(raw, headers, **how)  # type: ignore[arg-type]
    return caught.value.code


@pytest.mark.parametrize("length", [0, 1, SMALL_BODY_BYTES, SMALL_BODY_BYTES + 1, BLOCK_BYTES, 2 * BLOCK_BYTES + 5])
@pytest.mark.parametrize("piece", [65_536, 300_001])
async def test_blocks_are_whole_when_pieces_are_not(length: int, piece: int, executor: ThreadPoolExecutor) -> None:
    data = bytes(range(256)) * (length // 256 + 1)
    data = data[:length]
    headers = {"content-length": str(length), "x-amz-checksum-crc32": crc32(data)}
    got, sizes, checksum = await read(
        data, headers, payload=hashlib.sha256(data).hexdigest(), size=piece, executor=executor
    )
    assert got == data
    assert all(size == BLOCK_BYTES for size in sizes[:-1])
    assert checksum == Checksum(kind=ChecksumKind.CRC32, value=crc32(data))


@pytest.mark.parametrize("length", [10, SMALL_BODY_BYTES + 1, BLOCK_BYTES + 1])
async def test_body_fails_when_anything_declared_does_not_hold(length: int, executor: ThreadPoolExecutor) -> None:
    data = b"x" * length
    right = {"content-length": str(length)}
    wrong = "AAAAAA=="
    assert await failure(data, {"content-length": str(length + 1)}, executor=executor) == "s3.incomplete_body"
    assert await failure(data, {"content-length": str(length - 1)}, executor=executor) == "s3.incomplete_body"
    assert await failure(data, right, payload="00" * 32, executor=executor) == "s3.content_sha256_mismatch"
    md5 = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    assert await failure(data, {**right, "content-md5": md5}, executor=executor) == "s3.bad_digest"
    assert await failure(data, {**right, "x-amz-checksum-crc32": wrong}, executor=executor) == "s3.bad_digest"


@pytest.mark.parametrize("kind", list(ChecksumKind))
async def test_checksum_of_every_kind_is_checked_and_kept_when_declared(kind: ChecksumKind) -> None:
    known = {
        ChecksumKind.CRC32: "y/Q5Jg==",
        ChecksumKind.CRC32C: "4waSgw==",
        ChecksumKind.CRC64NVME: "rosUhgp5mIg=",
        ChecksumKind.SHA1: "98O8HYCOBHMqS5q7Y6f9u5rlKDw=",
        ChecksumKind.SHA256: "FeKw06L5sZPjw3Zul+WX5jR7E4tUc+VU8e0d1MA7Hm0=",
    }
    data = b"123456789"
    value = {
        ChecksumKind.SHA1: base64.b64encode(hashlib.sha1(data).digest()).decode(),
        ChecksumKind.SHA256: base64.b64encode(hashlib.sha256(data).digest()).decode(),
    }.get(kind, known[kind])
    headers = {"content-length": "9", f"x-amz-checksum-{kind.value.lower()}": value}
    _, _, checksum = await read(data, headers)
    assert checksum == Checksum(kind=kind, value=value)
    assert await failure(b"123456780", headers) == "s3.bad_digest"


@given(data=st.binary(max_size=3_000), size=st.integers(1, 700), piece=st.integers(1, 900), trailing=st.booleans())
async def test_signed_chunks_verify_when_cut_anywhere(data: bytes, size: int, piece: int, trailing: bool) -> None:
    trailers = {"x-amz-checksum-crc32": crc32(data)} if trailing else None
    payload = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" + ("-TRAILER" if trailing else "")
    headers = {"x-amz-decoded-content-length": str(len(data))}
    if trailing:
        headers["x-amz-trailer"] = "x-amz-checksum-crc32"
    got, _, checksum = await read(chunk_signed(data, size, trailers), headers, payload=payload, size=piece)
    assert got == data
    assert (checksum is not None) == trailing


@pytest.mark.parametrize("length", [1_000, SMALL_BODY_BYTES + 1_000])
async def test_signed_chunks_fail_when_a_byte_or_signature_is_changed(
    length: int, executor: ThreadPoolExecutor
) -> None:
    data = b"a" * length
    raw = chunk_signed(data, 300)
    headers = {"x-amz-decoded-content-length": str(length)}
    payload = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    flipped = raw.replace(b"a" * 300, b"a" * 299 + b"b", 1)
    assert await failure(flipped, headers, payload=payload, executor=executor) == "s3.signature_does_not_match"
    at = raw.rindex(b"chunk-signature=") + 16
    forged = raw[:at] + b"0" * 64 + raw[at + 64 :]
    assert await failure(forged, headers, payload=payload, executor=executor) == "s3.signature_does_not_match"
    assert await failure(raw[: raw.rindex(b"0;chunk")], headers, payload=payload) == "s3.incomplete_body"


async def test_signed_trailer_fails_when_changed() -> None:
    data = b"payload"
    raw = chunk_signed(data, 100, {"x-amz-checksum-crc32": crc32(data)})
    headers = {"x-amz-decoded-content-length": "7", "x-amz-trailer": "x-amz-checksum-crc32"}
    payload = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
    assert (await read(raw, headers, payload=payload))[0] == data
    forged = raw.replace(b"trailer-signature:", b"trailer-signature:0")
    assert await failure(forged, headers, payload=payload) == "s3.signature_does_not_match"


async def test_unsigned_trailer_is_checked_when_announced() -> None:
    headers = {"x-amz-decoded-content-length": "5", "x-amz-trailer": "x-amz-checksum-crc32"}
    payload = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    good = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:" + crc32(b"hello").encode() + b"\r\n\r\n"
    assert (await read(good, headers, payload=payload))[0] == b"hello"
    missing = b"5\r\nhello\r\n0\r\n\r\n"
    assert await failure(missing, headers, payload=payload) == "s3.malformed_trailer"
    bad = good.replace(b"hello", b"jello")
    assert await failure(bad, headers, payload=payload) == "s3.bad_digest"


def test_signed_chunks_are_refused_when_there_is_no_key_to_check_them_with() -> None:
    plan = plan_payload({"x-amz-decoded-content-length": "5"}, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
    with pytest.raises(DwError, match="Signed chunks"):
        body_of(Pieces(b"", 1), plan, None, signing=None)


@pytest.mark.parametrize(
    ("headers", "payload", "code"),
    [
        ({"transfer-encoding": "chunked"}, "UNSIGNED-PAYLOAD", "s3.missing_content_length"),
        ({"content-length": "5"}, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", "s3.missing_content_length"),
        ({"content-length": str(5 * 1024**3 + 1)}, "UNSIGNED-PAYLOAD", "s3.entity_too_large"),
        ({"content-length": "5"}, "STREAMING-SOMETHING", "s3.invalid_argument"),
        ({"content-length": "5", "content-md5": "AAAA"}, "UNSIGNED-PAYLOAD", "s3.invalid_digest"),
        ({"content-length": "5", "x-amz-checksum-crc32": "zz"}, "UNSIGNED-PAYLOAD", "s3.invalid_request"),
        ({"content-length": "5", "x-amz-checksum-crc32": "AAAAAA==", "x-amz-checksum-crc32c": "AAAAAA=="},
         "UNSIGNED-PAYLOAD", "s3.invalid_request"),
        ({"content-length": "5", "x-amz-trailer": "x-amz-checksum-crc32"}, "UNSIGNED-PAYLOAD", "s3.invalid_request"),
        ({"content-length": "5", "x-amz-checksum-crc32": "AAAAAA==", "x-amz-sdk-checksum-algorithm": "SHA1"},
         "UNSIGNED-PAYLOAD", "s3.invalid_request"),
        ({"content-length": "5", "x-amz-sdk-checksum-algorithm": "MD4"}, "UNSIGNED-PAYLOAD", "s3.invalid_request"),
    ],
)  # fmt: skip
def test_head_is_refused_when_its_body_cannot_hold(headers: dict[str, str], payload: str, code: str) -> None:
    with pytest.raises(DwError) as caught:
        plan_payload(headers, payload)
    assert caught.value.code == code


class Stalled:
    """The first `sent` bytes, then nothing more and no end."""

    def __init__(self, sent: int) -> None:
        self._left = sent
        self.stalled = asyncio.Event()

    async def read(self) -> bytes:
        size, self._left = min(self._left, 65_536), max(0, self._left - 65_536)
        if not size:
            self.stalled.set()
            await asyncio.Event().wait()
        return b"x" * size


def plan_of(length: int) -> PayloadPlan:
    return plan_payload({"content-length": str(length)}, "UNSIGNED-PAYLOAD")


async def test_client_holds_no_buffer_when_it_sent_next_to_nothing() -> None:
    filling, source = asyncio.Semaphore(1), Stalled(HEAD_BYTES - 1)
    chunks = body_of(source, plan_of(BLOCK_BYTES), None, filling=filling).chunks()
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        waiting = group.create_task(anext(chunks))
        await source.stalled.wait()
        assert not filling.locked()
        waiting.cancel()


@pytest.mark.parametrize("sent", [10, HEAD_BYTES - 1, HEAD_BYTES, BLOCK_BYTES - 1])
@pytest.mark.parametrize("limit", [{"seconds": 0.01}, {"step_seconds": 0.01, "seconds": 0.2}])
async def test_client_is_given_up_and_its_buffer_back_when_it_stalls(sent: int, limit: dict[str, float]) -> None:
    filling = asyncio.Semaphore(1)
    for length in (BLOCK_BYTES, SMALL_BODY_BYTES):
        with pytest.raises(DwError, match="too slowly") as caught:
            await anext(
                body_of(Stalled(min(sent, length - 1)), plan_of(length), None, filling=filling, **limit).chunks()
            )
        assert caught.value.code == "s3.request_timeout"
        assert not filling.locked()


async def test_block_waits_when_all_buffers_are_taken_and_goes_on_when_one_is_closed() -> None:
    filling = asyncio.Semaphore(1)
    first = body_of(Pieces(b"a" * BLOCK_BYTES, 65_536), plan_of(BLOCK_BYTES), None, filling=filling).chunks()
    second = body_of(Pieces(b"b" * BLOCK_BYTES, 65_536), plan_of(BLOCK_BYTES), None, filling=filling).chunks()
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        assert len(await anext(first)) == BLOCK_BYTES
        waiting = group.create_task(anext(second))
        for _ in range(200):
            await asyncio.sleep(0)
        assert not waiting.done()
        await first.aclose()
        assert len(await waiting) == BLOCK_BYTES
        await second.aclose()
    assert not filling.locked()
