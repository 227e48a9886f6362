"""Both ways of computing agree, any buffer is taken, ranges name what they cover. Erasures: test_erasures."""

from __future__ import annotations

import os
from random import Random  # noqa: TID251 - seeded, in a test

import pytest

from dwd.base.errors import InvariantViolation
from dwd.blocks.codec import encode, pieces_of, rebuild
from dwd.blocks.core.profiles import parse_profile
from dwd.blocks.isal import FragmentMath, IsalMath, PyeclibMath, fragment_math

MATHS: list[FragmentMath] = [fragment_math(), PyeclibMath()]
DATA = os.urandom(70_000)


def test_isal_and_pyeclib_agree_when_given_the_same_block() -> None:
    assert isinstance(MATHS[0], IsalMath)
    random = Random(5)
    for _ in range(30):
        profile = parse_profile(f"rs-{random.randint(1, 20)}-{random.randint(1, 6)}")
        block = DATA[: random.randint(1, len(DATA))]
        made = [[bytes(f) for f in encode(profile, block, math)] for math in MATHS]
        assert made[0] == made[1]
        lost = random.sample(range(profile.fragments), profile.parity)
        have = {i: f for i, f in enumerate(made[0]) if i not in lost}
        for math in MATHS:
            assert [bytes(f) for f in rebuild(profile, have, lost, math)] == [made[0][i] for i in lost]


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda b: memoryview(bytearray(b))])
def test_any_buffer_is_taken_when_it_holds_the_bytes(kind) -> None:
    profile = parse_profile("rs-4-2")
    assert [bytes(f) for f in encode(profile, kind(DATA))] == [bytes(f) for f in encode(profile, DATA)]
    fragments = encode(profile, DATA)
    have = {i: kind(bytes(fragments[i])) for i in (1, 2, 4, 5)}
    assert [bytes(f) for f in rebuild(profile, have, [0, 3])] == [bytes(fragments[0]), bytes(fragments[3])]


def test_fragments_of_different_lengths_are_refused() -> None:
    with pytest.raises(InvariantViolation):
        rebuild(parse_profile("rs-2-1"), {0: b"abc", 2: b"ab"}, [1])
    with pytest.raises(InvariantViolation):
        rebuild(parse_profile("rs-2-1"), {0: b"abc"}, [1])


def test_ranges_name_the_bytes_they_cover_when_cut_into_pieces() -> None:
    for name in ("rs-4-2", "replica-3", "rs-3-1"):
        profile = parse_profile(name)
        for size in (1, 2, 3, 4, 5, 17):
            fragments = encode(profile, DATA[:size])
            for start in range(size):
                for length in range(1, size + 2):
                    pieces = pieces_of(profile, size, start, length)
                    got = b"".join(bytes(fragments[p.index][p.start : p.end]) for p in pieces)
                    assert got == DATA[:size][start : start + length]
