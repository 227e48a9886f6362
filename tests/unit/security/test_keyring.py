"""The keyring: what opens, what must not, and that nonces and salts never repeat by construction."""

from __future__ import annotations

from pathlib import Path

import pytest

from dwd.base.errors import Corrupt, InvalidArgument, VersionRefused
from dwd.security import keyring as module
from dwd.security.keyring import OVERHEAD_BYTES, Keyring, decode_keyring, new_keyring

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("plain", [b"", b"x", bytes(262_144)])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_box_opens_when_context_matches(plain, kind) -> None:
    ring = new_keyring()
    box = ring.seal(kind(plain), context=b"bucket/key")
    assert len(box) == len(plain) + OVERHEAD_BYTES
    assert ring.open(box, context=b"bucket/key") == plain
    assert ring.open(memoryview(box), context=b"bucket/key") == plain


def test_box_opens_on_another_node_when_it_has_the_same_keys() -> None:
    ring = new_keyring()
    other = decode_keyring(ring.encode()).for_purpose("inline")
    box = ring.for_purpose("inline").seal(b"data", context=b"c")
    assert other.open(box, context=b"c") == b"data"


def test_box_stays_closed_when_moved_to_another_place_or_use() -> None:
    ring = new_keyring()
    box = ring.for_purpose("inline").seal(b"data", context=b"row 1")
    with pytest.raises(Corrupt):
        ring.for_purpose("inline").open(box, context=b"row 2")
    with pytest.raises(Corrupt):
        ring.for_purpose("secrets").open(box, context=b"row 1")
    with pytest.raises(Corrupt):
        ring.open(box, context=b"row 1")


def test_box_stays_closed_when_any_byte_is_flipped() -> None:
    ring = new_keyring()
    box = ring.seal(b"data", context=b"")
    for at in range(len(box)):
        flipped = bytearray(box)
        flipped[at] ^= 1
        with pytest.raises((Corrupt, VersionRefused)):
            ring.open(bytes(flipped), context=b"")


def test_box_is_refused_when_cut_off() -> None:
    ring = new_keyring()
    with pytest.raises(Corrupt):
        ring.open(ring.seal(b"", context=b"")[:-1], context=b"")


def test_old_boxes_open_and_new_ones_use_the_new_key_when_rotated() -> None:
    old = new_keyring()
    before = old.seal(b"data", context=b"")
    rotated = old.rotated()
    after = rotated.seal(b"data", context=b"")
    assert rotated.active_version == 2
    assert rotated.open(before, context=b"") == rotated.open(after, context=b"") == b"data"
    with pytest.raises(VersionRefused) as caught:
        old.open(after, context=b"")
    assert caught.value.code == "security.key_missing"


def test_nonce_and_salt_are_fresh_when_sealing() -> None:
    ring = new_keyring()
    boxes = [ring.seal(b"same", context=b"") for _ in range(100)]
    assert len({box[21:33] for box in boxes}) == 100
    assert new_keyring().seal(b"", context=b"")[5:21] != ring.seal(b"", context=b"")[5:21]
    assert ring.for_purpose("a").seal(b"", context=b"")[5:21] != boxes[0][5:21]


def test_salt_is_drawn_anew_when_its_bound_is_reached(monkeypatch) -> None:
    monkeypatch.setattr(module, "SEALS_PER_SALT_MAX", 3)
    ring = new_keyring()
    boxes = [ring.seal(b"same", context=b"") for _ in range(7)]
    assert [len({box[5:21] for box in boxes[i:j]}) for i, j in ((0, 3), (3, 6), (0, 7))] == [1, 1, 3]
    assert all(ring.open(box, context=b"") == b"same" for box in boxes)


def test_cache_of_subkeys_stays_bounded_when_many_processes_sealed(monkeypatch) -> None:
    monkeypatch.setattr(module, "SUBKEYS_CACHED_MAX", 4)
    ring = new_keyring()
    boxes = [decode_keyring(ring.encode()).seal(b"data", context=b"") for _ in range(20)]
    assert all(ring.open(box, context=b"") == b"data" for box in boxes)
    assert len(ring._opening) <= 4


def test_keys_come_back_when_encoded() -> None:
    ring = new_keyring().rotated().rotated()
    again = decode_keyring(ring.encode())
    assert again.encode() == ring.encode()
    assert again.active_version == 3


def test_keyring_is_refused_when_damaged() -> None:
    content = new_keyring().encode()
    for bad in (b"", content[:5], content[:-1], content + b"x", content[:4] + b"\x09" + content[5:]):
        with pytest.raises(Corrupt):
            decode_keyring(bad)
    with pytest.raises(VersionRefused):
        decode_keyring(b"\x02" + content[1:])


def test_keyring_is_refused_when_keys_are_not_usable() -> None:
    with pytest.raises(InvalidArgument):
        Keyring({1: bytes(32)}, active=2)
    with pytest.raises(InvalidArgument):
        Keyring({1: bytes(16)}, active=1)


def test_keys_stay_hidden_when_printed() -> None:
    ring = Keyring({1: b"K" * 32}, active=1)
    assert "K" * 8 not in repr(ring)


def test_released_box_opens_when_sealed_by_version_1() -> None:
    ring = decode_keyring(bytes.fromhex((GOLDEN / "keyring_v1.hex").read_text()))
    box = bytes.fromhex((GOLDEN / "keyring_box_v1.hex").read_text())
    assert ring.for_purpose("golden").open(box, context=b"place") == b"a keyring box of version 1"
