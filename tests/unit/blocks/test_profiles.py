from __future__ import annotations

import pytest

from dwd.base.errors import InvalidArgument
from dwd.blocks.core.profiles import Kind, parse_profile, parse_scheme, scheme_for


@pytest.mark.parametrize(
    ("name", "scheme", "fragments", "losses", "overhead"),
    [
        ("none", "none", 1, 0, 1.0),
        ("replica-2", "replica-2", 2, 1, 2.0),
        ("replica-5", "replica-5", 5, 4, 5.0),
        ("rs-2-1", "rs-2-1", 3, 1, 1.5),
        ("rs-4-2", "rs-4-2", 6, 2, 1.5),
        ("rs-16-4", "rs-16-4", 20, 4, 1.25),
        ("rs-20-6", "rs-20-6", 26, 6, 1.3),
        ("raid6-2", "rs-2-2", 4, 2, 2.0),
        ("raidz3-5", "rs-5-3", 8, 3, 1.6),
        ("standard", "rs-6-3", 9, 3, 1.5),
        ("high-durability", "rs-8-4", 12, 4, 1.5),
        ("storage-optimised", "rs-10-2", 12, 2, 1.2),
        ("hyperscale", "rs-16-4", 20, 4, 1.25),
    ],
)
def test_names_mean_what_the_table_says_when_parsed(
    name: str, scheme: str, fragments: int, losses: int, overhead: float
) -> None:
    profile = parse_profile(name)
    assert (profile.scheme, profile.fragments, profile.losses_survived) == (scheme, fragments, losses)
    assert profile.overhead == pytest.approx(overhead)
    assert profile.devices_min == fragments
    assert parse_scheme(scheme).scheme == scheme


@pytest.mark.parametrize(
    "name", ["", "rs", "rs-0-1", "rs-4-0", "rs-21-2", "rs-4-7", "replica-1", "replica-6", "raid6-1", "RS-4-2", "auto"]
)
def test_names_are_refused_when_not_in_the_table(name: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_profile(name)


def test_small_blocks_survive_as_much_when_stored_as_copies() -> None:
    for m in range(1, 7):
        profile = parse_profile(f"rs-4-{m}")
        small = scheme_for(profile, 131_071)
        assert (small.kind, small.losses_survived) == (Kind.COPIES, m)
        assert parse_scheme(small.scheme).fragments == m + 1
        assert scheme_for(profile, 131_072) is profile
    assert scheme_for(parse_profile("replica-2"), 1).scheme == "replica-2"
