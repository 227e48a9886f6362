"""CRC-64/NVME, both ways of computing it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwd.gateway.core import crc64
from dwd.gateway.native_crc64 import native_update

CHECK = 0xAE8B14860A799888
NATIVE = native_update() or crc64.table_update


@pytest.mark.parametrize("update", [crc64.table_update, NATIVE])
def test_value_is_the_published_one_when_given_the_check_string(update: crc64.Update) -> None:
    assert update(0, b"123456789") == CHECK
    assert update(0, b"") == 0


@given(left=st.binary(max_size=200), right=st.binary(max_size=200))
def test_value_is_the_same_when_fed_in_pieces_of_any_buffer(left: bytes, right: bytes) -> None:
    whole = crc64.table_update(0, left + right)
    assert NATIVE(NATIVE(0, left), bytearray(right)) == whole
    assert NATIVE(NATIVE(0, memoryview(left)), memoryview(bytearray(right))) == whole


def test_wrong_function_is_not_installed() -> None:
    assert not crc64.install(lambda _value, _data: 7)
    assert crc64.update(0, b"123456789") == CHECK
    assert crc64.install(NATIVE)
