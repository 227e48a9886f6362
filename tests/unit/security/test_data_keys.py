"""Keys below the cluster's: bound to their owner, in a stable form, never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from dwd.base.errors import Corrupt, VersionRefused
from dwd.security.data_keys import (
    BUCKET_PURPOSE,
    OpenedKeys,
    Scheme,
    Sealing,
    WrappingKey,
    decode_sealing,
    encode_sealing,
    new_key,
    stream_cipher,
)
from dwd.security.keyring import new_keyring

GOLDEN = Path(__file__).parent / "golden"
KEY, DATA_KEY = bytes(range(32)), bytes(range(32, 64))


def test_sealings_of_version_1_are_read() -> None:
    found = decode_sealing(bytes.fromhex((GOLDEN / "sealing_v1.hex").read_text()))
    assert (found.scheme, found.inline_packing, found.name) == (Scheme.NAMED, 3, "payroll")
    assert WrappingKey(KEY).unwrap(found.box, b"bkt\0key") == DATA_KEY
    assert decode_sealing(encode_sealing(found)) == found
    sealed = bytes.fromhex("45f4d22bba2a55a067e4ed7fbbc99c15ff")
    assert stream_cipher(DATA_KEY, b"s" * 16).decrypt(bytes(12), sealed, b"") == b"x"


def test_a_data_key_opens_for_its_owner_and_wrapping_key_alone() -> None:
    box = WrappingKey(KEY).wrap(DATA_KEY, b"bkt\0key")
    for key, owner in ((KEY, b"bkt\0other"), (new_key(), b"bkt\0key")):
        with pytest.raises(Corrupt):
            WrappingKey(key).unwrap(box, owner)


@pytest.mark.parametrize("broken", [b"\x02\x01\x00\x00", b"\x01\x09\x00\x00", b"\x01\x01\x00\x05ab", b"\x01"])
def test_a_sealing_is_refused_when_it_is_cut_or_of_a_later_form(broken: bytes) -> None:
    with pytest.raises((Corrupt, VersionRefused)):
        decode_sealing(broken)


def test_a_buckets_key_opens_for_its_name_alone_and_is_not_shown() -> None:
    opened = OpenedKeys(new_keyring(), purpose=BUCKET_PURPOSE)
    box = opened.seal("bkt", KEY)
    with pytest.raises(Corrupt):
        opened.open("other", box)
    shown = repr(opened.open("bkt", box).__dict__) + repr(Sealing(scheme=Scheme.BUCKET, box=box))
    assert KEY.hex() not in shown
    assert repr(KEY)[2:-1] not in shown
