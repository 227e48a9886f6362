"""Ids, stamps, sizes, durations, placement bits: written and read back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwd.base import limits
from dwd.base.blocks import Handoff, StoredBlock, placement_of
from dwd.base.errors import InvalidArgument
from dwd.base.ids import BlockId, DeviceId, LayoutEpoch, Stamp, hex_id, parse_hex_id, stamp_ms, stamp_of
from dwd.base.units import GIB, KIB, MIB, TIB, format_bytes, format_duration, parse_bytes


@given(st.integers(0, 2**63 - 1))
def test_id_is_the_same_when_written_and_read_back(value: int) -> None:
    assert len(hex_id(value)) == 16
    assert parse_hex_id(hex_id(value)) == value


@pytest.mark.parametrize(
    "text",
    ["", "1", "g" * 16, "A" * 16, "0" * 15, "0" * 17, " " + "0" * 15, "0" * 16 + "\n", "\N{FULLWIDTH DIGIT ZERO}" * 16],
)
def test_id_is_refused_when_it_is_not_16_lower_case_hex_digits(text: str) -> None:
    with pytest.raises(InvalidArgument, match="hex"):
        parse_hex_id(text)


@given(st.integers(0, 2**47 - 1), st.integers(0, 2**16 - 1))
def test_stamp_keeps_its_millisecond_when_its_counter_grows(unix_ms: int, counter: int) -> None:
    assert stamp_ms(Stamp(stamp_of(unix_ms) + counter)) == unix_ms
    assert stamp_of(unix_ms) < stamp_of(unix_ms + 1)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (MIB - 1, "1 MiB"),
        (4 * MIB + 512 * KIB, "4.5 MiB"),
        (GIB, "1 GiB"),
        (5 * TIB, "5 TiB"),
        (5000 * TIB, "5000 TiB"),
        (-2048, "-2 KiB"),
    ],
)
def test_size_is_in_the_largest_fitting_unit_when_written(count: int, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("4096", 4096),
        ("0", 0),
        ("64 MiB", 64 * MIB),
        ("64mib", 64 * MIB),
        (" 1GB ", 10**9),
        ("4.5 MiB", 4 * MIB + 512 * KIB),
        ("0.1KB", 100),
        ("9007199254740993", 9_007_199_254_740_993),
    ],
)
def test_size_is_exact_when_read(text: str, count: int) -> None:
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1 XB", "1.2.3", "1e9", "1 MiB more", "nan"])
def test_size_is_refused_when_malformed(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_bytes(text)


@given(st.integers(0, 2**50))
def test_size_is_off_by_less_than_its_last_digit_when_written_and_read_back(count: int) -> None:
    assert abs(parse_bytes(format_bytes(count)) - count) <= max(count * 0.06, 1)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.85, "850 ms"),
        (0.9996, "1.0 s"),
        (12.34, "12.3 s"),
        (59.97, "1 min 0 s"),
        (245, "4 min 5 s"),
        (3599.9, "1 h 0 min"),
        (12_000, "3 h 20 min"),
    ],
)
def test_duration_reads_as_people_say_it_when_written(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_placement_bits_are_the_ninth_and_tenth_byte_when_taken_from_a_block_id() -> None:
    assert placement_of(BlockId(bytes(8) + b"\x12\x34" + bytes(6))) == 0x1234


@pytest.mark.parametrize(
    ("handoffs", "missing", "needed"),
    [((), (), False), ((Handoff(index=1, device=DeviceId(2)),), (), True), ((), (3,), True)],
)
def test_block_needs_repair_when_a_fragment_is_elsewhere_or_nowhere(
    handoffs: tuple[Handoff, ...], missing: tuple[int, ...], needed: bool
) -> None:
    block = StoredBlock(
        block=BlockId(bytes(16)), profile="rs-4-2", length=1, crc32c=0, layout_epoch=LayoutEpoch(1),
        handoffs=handoffs, missing=missing,
    )  # fmt: skip
    assert block.needs_repair is needed


def test_limits_fit_each_other_when_taken_together() -> None:
    assert limits.INLINE_BYTES_DEFAULT <= limits.INLINE_BYTES_MAX < limits.COMMAND_BYTES_MAX
    assert limits.BLOCK_BYTES + limits.CHUNK_BYTES <= limits.MESSAGE_BYTES_MAX
    assert limits.SMALL_BLOCK_BYTES < limits.BLOCK_BYTES
