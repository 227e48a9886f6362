"""Boxes for one node."""

from __future__ import annotations

from pathlib import Path

import pytest

from dwd.base.errors import Corrupt, InvalidArgument, VersionRefused
from dwd.security.sealing import new_sealing_key, open_sealed, seal_for, sealing_key

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("plain", [b"", b"x", bytes(100_000)])
def test_box_opens_when_key_and_context_match(plain) -> None:
    key = new_sealing_key()
    assert open_sealed(key, seal_for(key.public, plain, context=b"keyring"), context=b"keyring") == plain


def test_box_stays_closed_when_key_or_context_differ() -> None:
    key = new_sealing_key()
    box = seal_for(key.public, b"secret", context=b"keyring")
    with pytest.raises(Corrupt):
        open_sealed(new_sealing_key(), box, context=b"keyring")
    with pytest.raises(Corrupt):
        open_sealed(key, box, context=b"authority")


def test_box_stays_closed_when_any_byte_is_flipped() -> None:
    key = new_sealing_key()
    box = seal_for(key.public, b"secret")
    for at in range(1, len(box)):
        flipped = bytearray(box)
        flipped[at] ^= 1
        with pytest.raises(Corrupt):
            open_sealed(key, bytes(flipped))


def test_box_is_refused_when_cut_off_or_of_later_format() -> None:
    key = new_sealing_key()
    box = seal_for(key.public, b"")
    with pytest.raises(Corrupt):
        open_sealed(key, box[:-1])
    with pytest.raises(VersionRefused):
        open_sealed(key, b"\x02" + box[1:])


def test_boxes_differ_when_sealed_twice() -> None:
    key = new_sealing_key()
    assert seal_for(key.public, b"same") != seal_for(key.public, b"same")


@pytest.mark.parametrize("public", [b"", bytes(31), bytes(32)])
def test_sealing_is_refused_when_public_key_is_none(public) -> None:
    with pytest.raises(InvalidArgument):
        seal_for(public, b"secret")


def test_private_key_stays_hidden_when_printed() -> None:
    key = new_sealing_key()
    assert repr(key.private) not in repr(key)
    assert key.private.hex() not in repr(key)


def test_released_box_opens_when_sealed_by_version_1() -> None:
    key = sealing_key(bytes(range(32)))
    box = bytes.fromhex((GOLDEN / "sealed_box_v1.hex").read_text())
    assert open_sealed(key, box, context=b"golden") == b"a sealed box of version 1"
