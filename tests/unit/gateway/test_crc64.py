"""CRC-64/NVME, both ways of computing it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwd.gateway.core import crc64

CHECK = 0xAE8B14860A799888
NATIVE = crc64.native_update()


@pytest.mark.parametrize("update", [crc64.table_update, crc64.update])
def test_value_is_the_published_one_when_given_the_check_string(update: crc64.Update) -> None:
    assert update(0, b"123456789") == CHECK
    assert update(0, b"") == 0


@given(left=st.binary(max_size=200), right=st.binary(max_size=200))
def test_value_is_the_same_when_fed_in_pieces_of_any_buffer(left: bytes, right: bytes) -> None:
    whole = crc64.table_update(0, left + right)
    assert crc64.update(crc64.update(0, left), bytearray(right)) == whole
    assert crc64.update(crc64.update(0, memoryview(left)), memoryview(bytearray(right))) == whole


@pytest.mark.skipif(NATIVE is None, reason="no ISA-L with CRC64 here")
def test_native_library_is_used_when_there() -> None:
    assert crc64.update is not crc64.table_update
