"""Laws of packed blocks: what was put in comes out, by any range, and whatever was changed on the way is refused."""

from __future__ import annotations

from random import Random  # noqa: TID251 - seeded by Hypothesis

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from dwd.base.errors import Corrupt, DwError
from dwd.objects.core import frames
from dwd.objects.core.packing import SEALED, ZSTD, PackedBlock, Packer
from dwd.objects.core.records import RECORD_BYTES, SEALED_BYTES, sealed_length, unsealed_length

CIPHER = AESGCM(bytes(range(32)))
EDGES = (
    1, 511, 512, RECORD_BYTES - 1, RECORD_BYTES, RECORD_BYTES + 1, frames.FRAME_BYTES - 1, frames.FRAME_BYTES,
    frames.FRAME_BYTES + 1, 2 * frames.FRAME_BYTES + 17, 4 * 1024 * 1024,
)  # fmt: skip
sizes = st.one_of(st.sampled_from(EDGES), st.integers(1, 700_000))
positions = st.integers(0, 1 << 43)


def text(seed: int, size: int) -> bytes:
    """Bytes that compress to about a third."""
    words = [bytes(Random(n).choices(range(97, 123), k=3 + n % 9)) for n in range(300)]
    chosen = Random(seed)
    return b" ".join(chosen.choice(words) for _ in range(size // 4 + 1))[:size]


def noise(seed: int, size: int) -> bytes:
    return Random(seed).randbytes(size)


def opened(packing: int, stored: int, plain: int, position: int) -> PackedBlock:
    cipher = CIPHER if packing & SEALED else None
    return PackedBlock(packing=packing, length=stored, plain_length=plain, position=position, cipher=cipher)


def read(block: PackedBlock, data: bytes, start: int, end: int) -> tuple[bytes, int]:
    """The range as a reader gets it, and how many bytes of the block it fetched."""
    span, table, fetched = block.table_span(), None, 0
    if span is not None:
        table = block.read_table(data[slice(*span)])
        fetched = span[1] - span[0]
    first, last = block.span(start, end, table)
    return bytes(block.unpack(data[first:last], start, end, table)), fetched + last - first


@given(
    sizes, positions, st.integers(0, 99), st.sampled_from((text, noise)), st.sampled_from((0, 1, 3)), st.booleans(),
    st.data(),
)  # fmt: skip
def test_bytes_come_back_when_packed_in_any_way(size, position, seed, make, level, sealed, data) -> None:  # type: ignore[no-untyped-def]
    plain = make(seed, size)
    packed = Packer(level=level, cipher=CIPHER if sealed else None).pack(plain, position)
    assert bool(packed.packing & SEALED) == sealed
    assert not packed.packing & ZSTD or len(packed.data) < 0.96 * size + 64 * 16
    if not packed.packing:
        assert packed.data == plain
        return
    stored = bytes(packed.data)
    block = opened(packed.packing, len(stored), size, position)
    assert bytes(block.unpack(stored, 0, size, None)) == plain
    start = data.draw(st.integers(0, size - 1))
    end = data.draw(st.integers(start + 1, size))
    found, fetched = read(block, stored, start, end)
    assert found == plain[start:end]
    frame_of = 1 if packed.packing == SEALED else frames.FRAME_BYTES
    widened = (end - start) + 2 * frame_of + 4 * SEALED_BYTES
    assert fetched <= widened + (2 * SEALED_BYTES if packed.packing & ZSTD else 0)


@pytest.mark.parametrize("make", [text, noise])
@pytest.mark.parametrize("level", [0, 1])
def test_every_flipped_byte_is_refused_when_a_block_is_sealed(make, level) -> None:  # type: ignore[no-untyped-def]
    plain = make(1, 900)
    packed = Packer(level=level, cipher=CIPHER).pack(plain, 7)
    for at in range(len(packed.data)):
        broken = bytearray(packed.data)
        broken[at] ^= 1 << at % 8
        with pytest.raises(Corrupt):
            opened(packed.packing, len(broken), len(plain), 7).unpack(broken, 0, len(plain), None)


@given(st.integers(0, 9), st.integers(1, 3))
def test_records_are_refused_when_swapped_moved_or_cut(seed: int, swap: int) -> None:
    plain = noise(seed, 4 * RECORD_BYTES)
    stored = bytes(Packer(level=0, cipher=CIPHER).pack(plain, 0).data)
    records = [stored[at : at + SEALED_BYTES] for at in range(0, len(stored), SEALED_BYTES)]
    swapped = [records[swap], *records[1:swap], records[0], *records[swap + 1 :]]
    other = bytes(Packer(level=0, cipher=CIPHER).pack(noise(seed + 100, 4 * RECORD_BYTES), 1 << 22).data)
    mixed = [*records[:swap], other[swap * SEALED_BYTES : (swap + 1) * SEALED_BYTES], *records[swap + 1 :]]
    whole = opened(SEALED, len(stored), len(plain), 0)
    for broken in (b"".join(swapped), b"".join(mixed)):
        with pytest.raises(Corrupt):
            whole.unpack(broken, 0, len(plain), None)
    shorter = 4 * RECORD_BYTES - RECORD_BYTES * swap
    with pytest.raises(Corrupt):  # whole records were left out, and the row made to agree
        opened(SEALED, sealed_length(shorter), shorter, 0).unpack(stored[: sealed_length(shorter)], 0, shorter, None)
    with pytest.raises(Corrupt):  # another block of the same object
        opened(SEALED, len(stored), len(plain), 1 << 22).unpack(stored, 0, len(plain), None)
    strange = PackedBlock(
        packing=SEALED, length=len(stored), plain_length=len(plain), position=0, cipher=AESGCM(bytes(32))
    )
    with pytest.raises(Corrupt):  # a key of its own for every object
        strange.unpack(stored, 0, len(plain), None)


@given(st.integers(0, 300), st.integers(0, 7), st.integers(0, 3))
def test_compressed_bytes_are_right_or_refused_when_some_are_damaged(at: int, bit: int, cut: int) -> None:
    """Without a seal the block's checksum finds damage; frames must still never crash nor take the memory they name."""
    plain = text(3, 2_000)
    packed = Packer(level=1, cipher=None).pack(plain, 0)
    assert packed.packing == ZSTD
    broken = bytearray(packed.data)
    broken[at % len(broken)] ^= 1 << bit
    broken = broken[: len(broken) - cut]
    try:
        found = opened(ZSTD, len(broken), len(plain), 0).unpack(broken, 0, len(plain), None)
    except DwError as error:
        assert isinstance(error, Corrupt)  # noqa: PT017 - or no error at all
    else:
        assert len(found) == len(plain)


def test_nonces_differ_when_records_lie_anywhere_under_one_key() -> None:
    seen: set[bytes] = set()

    class Recorder:
        def encrypt_into(self, nonce: bytes, data: bytes, bound: bytes, out: memoryview) -> None:
            assert nonce not in seen
            seen.add(nonce)

    packer = Packer(level=0, cipher=Recorder())  # type: ignore[arg-type]
    for block in range(5):
        packer.pack(bytes(4 * RECORD_BYTES), block * 4 * RECORD_BYTES)
    assert len(seen) == 20


@given(st.integers(1, 5_000_000))
def test_lengths_follow_from_each_other_when_sealed(length: int) -> None:
    assert unsealed_length(sealed_length(length)) == length


def test_a_frame_is_refused_when_it_claims_to_unpack_to_more() -> None:
    plain = bytes(frames.FRAME_BYTES)
    stored = bytearray(Packer(level=1, cipher=None).pack(plain, 0).data)
    import zstandard  # noqa: PLC0415

    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 26))
    table = frames.read_table(
        stored[-frames.table_length(len(plain)) :], plain_length=len(plain), stream_length=len(stored)
    )
    assert table.starts[1] < len(bomb) + 10_000
    lying = frames.Frames(starts=(0, len(bomb)), plain_length=len(plain))
    with pytest.raises(Corrupt):
        lying.unpack(bomb, 0, len(plain))
