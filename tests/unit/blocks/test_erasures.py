"""Every named profile, every way to lose as many fragments as it survives, every size around a boundary.

What takes more than seconds (`campaign`) is sampled here.
"""

from __future__ import annotations

import random  # noqa: TID251 - seeded, in a test
from collections.abc import Iterator
from itertools import combinations

import pytest

from dwd.base.limits import BLOCK_BYTES, SMALL_BLOCK_BYTES
from dwd.blocks.codec import encode, rebuild
from dwd.blocks.core.profiles import ALIASES, Kind, Profile, parse_profile, scheme_for
from dwd.blocks.volumes.fragment import PAGE_BYTES

NAMED = [
    "none", *(f"replica-{n}" for n in range(2, 6)), "rs-2-1", "rs-4-2", "rs-6-3", "rs-8-4", "rs-10-2", "rs-16-4",
    "raid6-2", "raid6-3", "raid6-6", "raidz3-2", "raidz3-4", "raidz3-8", *ALIASES,
]  # fmt: skip
PATTERNS_MAX = 120
"""Sampled for profiles of more."""
DATA = random.Random(1).randbytes(BLOCK_BYTES + 1)


def sizes(profile: Profile) -> list[int]:
    k, page = profile.data, PAGE_BYTES
    around = (1, k, page, k * page, SMALL_BLOCK_BYTES, BLOCK_BYTES)
    return sorted({0, *(size + by for size in around for by in (-1, 0, 1) if 0 < size + by <= BLOCK_BYTES)})


def patterns(profile: Profile) -> Iterator[tuple[int, ...]]:
    """Every way to lose 1 to M fragments."""
    for lost in range(1, profile.parity + 1):
        yield from combinations(range(profile.fragments), lost)


def sampled(profile: Profile) -> list[tuple[int, ...]]:
    found = list(patterns(profile))
    return found if len(found) <= PATTERNS_MAX else random.Random(profile.name).sample(found, PATTERNS_MAX)


def check(profile: Profile, size: int, lost: list[tuple[int, ...]]) -> None:
    fragments = [bytes(fragment) for fragment in encode(profile, memoryview(DATA)[:size])]
    assert {len(fragment) for fragment in fragments} == {profile.fragment_length(size)}
    for gone in lost:
        have = {i: fragment for i, fragment in enumerate(fragments) if i not in gone}
        assert [bytes(f) for f in rebuild(profile, have, gone)] == [fragments[i] for i in gone], (size, gone)
        plain = b"".join(bytes(f) for f in rebuild(profile, have, range(profile.data)))
        assert plain[:size] == DATA[:size], (size, gone)


@pytest.mark.parametrize("name", NAMED)
def test_every_pattern_of_losses_is_rebuilt(name: str) -> None:
    profile = parse_profile(name)
    check(profile, 3 * profile.data + 1, sampled(profile))


@pytest.mark.parametrize("name", NAMED)
def test_blocks_come_back_whatever_their_size_when_as_much_is_lost_as_may_be(name: str) -> None:
    profile = parse_profile(name)
    worst = [(), tuple(range(profile.parity)), tuple(range(profile.fragments - profile.parity, profile.fragments))]
    chance = random.Random(name)
    for size in sizes(profile):
        gone = tuple(sorted(chance.sample(range(profile.fragments), profile.parity)))
        check(profile, size, [gone] if size > 1 << 20 else [*worst, gone])


def test_other_profiles_survive_what_they_say_by_seeded_samples() -> None:
    chance = random.Random(20)
    for _ in range(60):
        profile = parse_profile(f"rs-{chance.randint(1, 20)}-{chance.randint(1, 6)}")
        size = chance.choice([chance.randint(1, 3 * profile.data), chance.randint(1, 1 << 17)])
        lost = [
            tuple(sorted(chance.sample(range(profile.fragments), chance.randint(1, profile.parity)))) for _ in range(4)
        ]
        check(profile, size, lost)


@pytest.mark.parametrize("name", ["rs-2-1", "rs-4-2", "rs-6-3", "rs-16-4", "raidz3-4"])
def test_small_blocks_survive_as_much_in_copies_around_the_limit(name: str) -> None:
    profile = parse_profile(name)
    for size in (SMALL_BLOCK_BYTES - 1, SMALL_BLOCK_BYTES, SMALL_BLOCK_BYTES + 1):
        stored = scheme_for(profile, size)
        assert (stored.kind is Kind.COPIES) == (size < SMALL_BLOCK_BYTES)
        assert stored.losses_survived == profile.losses_survived
        check(stored, size, [tuple(range(stored.parity))])


@pytest.mark.campaign
@pytest.mark.parametrize("name", [name for name in NAMED if name not in ALIASES])
def test_every_pattern_at_every_size_is_rebuilt(name: str) -> None:
    profile = parse_profile(name)
    everything = list(patterns(profile))
    for size in sizes(profile):
        few = sampled(profile)[: 20 if size > 1 << 20 else None]
        check(profile, size, everything if size <= 2 * profile.data else few)
