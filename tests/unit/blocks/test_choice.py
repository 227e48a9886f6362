"""Which profile a bucket gets: the documented table, row by row, and what makes a policy impossible."""

from __future__ import annotations

import re

import pytest

from dwd.base.errors import InvalidArgument
from dwd.base.ids import NodeId
from dwd.base.policy import CRITICALITIES, TIERS, Criticality, Policy, Tier
from dwd.blocks.core import choice
from dwd.blocks.core.choice import LADDERS, LOSSES, choose, fallbacks, shortfall, validate
from dwd.blocks.core.domains import Domains, domains_of, even_domains, spread, survived
from dwd.blocks.core.profiles import parse_profile

CRITICALITY_ORDER = (Criticality.LOW, Criticality.NORMAL, Criticality.HIGH, Criticality.CRITICAL)


def auto(tier: str, criticality: str = "normal", **shape: int) -> str:
    policy = Policy(tier=TIERS[tier], criticality=CRITICALITIES[criticality])
    return choose(policy, even_domains(**shape)).profile.name


@pytest.mark.parametrize(
    ("tier", "criticality", "shape", "chosen"),
    [
        ("individual", "normal", {"nodes": 1}, "none"),
        ("individual", "normal", {"nodes": 1, "devices": 2}, "replica-2"),
        ("smb", "normal", {"nodes": 1, "devices": 4}, "rs-2-2"),
        ("smb", "normal", {"nodes": 2}, "replica-2"),
        ("individual", "normal", {"nodes": 3}, "replica-2"),
        ("individual", "normal", {"nodes": 4}, "rs-2-1"),
        ("individual", "high", {"nodes": 6}, "rs-4-2"),
        ("smb", "low", {"nodes": 7}, "rs-4-1"),
        ("smb", "normal", {"nodes": 3}, "replica-3"),
        ("smb", "normal", {"nodes": 4}, "rs-2-2"),
        ("smb", "normal", {"nodes": 5}, "rs-3-2"),
        ("smb", "normal", {"nodes": 6}, "rs-4-2"),
        ("smb", "normal", {"nodes": 60}, "rs-4-2"),
        ("smb", "critical", {"nodes": 9}, "rs-6-3"),
        ("enterprise", "normal", {"nodes": 6}, "rs-4-2"),
        ("enterprise", "high", {"nodes": 7}, "rs-4-3"),
        ("enterprise", "critical", {"nodes": 12}, "rs-8-4"),
        ("high-stakes", "normal", {"nodes": 4}, "replica-4"),
        ("high-stakes", "normal", {"nodes": 9}, "rs-6-3"),
        ("high-stakes", "high", {"nodes": 30}, "rs-8-4"),
        ("hyperscale", "low", {"nodes": 12}, "rs-10-2"),
        ("hyperscale", "normal", {"nodes": 19}, "rs-8-4"),
        ("hyperscale", "normal", {"nodes": 20}, "rs-16-4"),
        ("smb", "normal", {"nodes": 6, "zones": 2}, "rs-4-2"),
        ("enterprise", "normal", {"nodes": 6, "zones": 2}, "rs-2-2"),
        ("enterprise", "normal", {"nodes": 6, "zones": 3}, "rs-4-2"),
        ("smb", "high", {"nodes": 6, "zones": 2}, "rs-2-2"),
        ("high-stakes", "normal", {"nodes": 12, "zones": 3}, "rs-6-3"),
        ("hyperscale", "normal", {"nodes": 24, "zones": 6}, "rs-16-4"),
        ("hyperscale", "normal", {"nodes": 24, "zones": 4}, "rs-8-4"),
    ],
)
def test_auto_is_what_the_table_says_when_asked(
    tier: str, criticality: str, shape: dict[str, int], chosen: str
) -> None:
    assert auto(tier, criticality, **shape) == chosen


def test_the_documented_tables_are_those_that_decide() -> None:
    text = choice.__doc__ or ""
    for tier, losses in LOSSES.items():
        row = re.search(rf"^ +{tier.name.lower().replace('_', '-')} +(\d) +(\d) +(\d) +(\d)", text, re.MULTILINE)
        assert row is not None
        assert tuple(map(int, row.groups())) == tuple(losses[c] for c in CRITICALITY_ORDER)
    table = text[: text.index("* for the tier")].splitlines()
    header = next(number for number, line in enumerate(table) if "survives 1 " in line)
    starts = [found.start() for found in re.finditer("survives", table[header])]
    drawn: dict[int, list[tuple[int, str]]] = {1: [], 2: [], 3: [], 4: []}
    for line in table[header + 1 :]:
        for column, start in enumerate(starts, 1):
            cell = re.match(r"\s*(\d+)  ([a-z0-9-]+)", line[start : start + 19])
            if cell:
                drawn[column].append((int(cell[1]), cell[2]))
    assert drawn == {losses: list(rows) for losses, rows in LADDERS.items()}


@pytest.mark.parametrize("losses", sorted(LADDERS))
def test_rows_go_on_taking_writes_when_domains_are_down(losses: int) -> None:
    for nodes in range(3, 40):
        name = next(name for least, name in reversed(LADDERS[losses]) if least <= nodes)
        profile = parse_profile(name)
        assert profile.fragments <= nodes
        for down in (1, 2) if nodes >= 6 else (1,):
            assert -(-profile.fragments // (nodes - down)) <= profile.parity, (nodes, down, name)


def test_more_is_survived_when_tier_or_criticality_rise() -> None:
    for losses in LOSSES.values():
        rising = [losses[c] for c in CRITICALITY_ORDER]
        assert rising == sorted(rising)
    for criticality in CRITICALITY_ORDER:
        rising = [LOSSES[t][criticality] for t in (Tier.INDIVIDUAL, Tier.SMB, Tier.ENTERPRISE, Tier.HIGH_STAKES)]
        assert rising == sorted(rising)


def test_reasons_name_tier_domains_and_what_more_would_take() -> None:
    policy = Policy(criticality=Criticality.CRITICAL)
    found = choose(policy, even_domains(nodes=3), Tier.HIGH_STAKES)
    assert found.profile.name == "replica-3"
    text = "; ".join(found.reasons)
    assert "tier high-stakes (of the cluster) and criticality critical: 4 losses" in text
    assert "3 devices on 3 nodes: 3 failure domains" in text
    assert "4 losses are survived from 5 on" in text
    assert choose(Policy(profile="standard"), even_domains(nodes=9)).reasons == ("standard is a name of rs-6-3",)


@pytest.mark.parametrize(
    ("profile", "shape", "missing"),
    [
        ("none", {"devices": 1}, ""),
        ("raid6-2", {"devices": 3}, "needs 4 devices, the cluster has 3"),
        ("raid6-2", {"devices": 4}, ""),
        ("raidz3-2", {"devices": 4}, "needs 5 devices"),
        ("replica-5", {"devices": 4}, "needs 5 devices"),
        ("standard", {"devices": 8}, "needs 9 devices"),
        ("rs-4-2", {"devices": 6, "nodes": 3}, ""),
        ("rs-4-2", {"devices": 6, "nodes": 2}, "needs 6 devices on at least 3 nodes, 2 on a node at most"),
        ("rs-4-2", {"devices": 6, "nodes": 1}, ""),
        ("rs-10-2", {"devices": 12, "nodes": 4}, "on at least 6 nodes"),
        ("replica-2", {"devices": 4, "nodes": 2}, ""),
        ("rs-20-6", {"devices": 25}, "needs 26 devices"),
    ],
)
def test_a_policy_is_refused_when_it_cannot_be_kept(profile: str, shape: dict[str, int], missing: str) -> None:
    domains = even_domains(**shape)
    assert missing in shortfall(parse_profile(profile), domains)
    assert bool(missing) == bool(shortfall(parse_profile(profile), domains))
    if not missing:
        assert validate(Policy(profile=profile), domains).profile.name == profile
        return
    with pytest.raises(InvalidArgument) as refused:
        validate(Policy(profile=profile), domains)
    assert refused.value.code == "blocks.too_few_devices"
    assert missing in refused.value.message
    allowed = validate(Policy(profile=profile, allow_fallback=True), domains)
    assert (allowed.profile.name, bool(allowed.shortfall)) == (profile, True)


def test_auto_always_fits_whatever_the_cluster() -> None:
    for tier in Tier:
        for criticality in Criticality:
            for nodes in range(1, 31):
                for zones in range(1, min(nodes, 5)):
                    found = choose(Policy(tier=tier, criticality=criticality), even_domains(nodes=nodes, zones=zones))
                    assert not found.shortfall, (tier, criticality, nodes, zones)


def test_fallbacks_keep_what_is_survived_first_and_never_leave_one_copy() -> None:
    assert [p.name for p in fallbacks(parse_profile("rs-4-2"))] == ["rs-3-2", "rs-2-2", "replica-3", "replica-2"]
    assert [p.name for p in fallbacks(parse_profile("standard"))][:2] == ["rs-5-3", "rs-4-3"]
    assert [p.name for p in fallbacks(parse_profile("replica-4"))] == ["replica-3", "replica-2"]
    assert [p.name for p in fallbacks(parse_profile("rs-2-1"))] == ["replica-2"]
    assert fallbacks(parse_profile("replica-2")) == fallbacks(parse_profile("none")) == ()
    for name in ("rs-20-6", "rs-16-4", "raid6-8", "raidz3-7", "replica-5"):
        tried = [parse_profile(name), *fallbacks(parse_profile(name))]
        assert [p.fragments for p in tried] == sorted({p.fragments for p in tried}, reverse=True)
        assert tried[-1].name == "replica-2"


def test_fragments_lie_evenly_when_domains_are_uneven() -> None:
    domains = domains_of(
        [("a", NodeId(1)), ("a", NodeId(1)), ("a", NodeId(2)), ("b", NodeId(3)), ("b", NodeId(3)), ("b", NodeId(3))]
    )
    assert domains == Domains(zones=((2, 1), (3,)))
    assert str(domains) == "6 devices on 3 nodes in 2 zones"
    found = spread(domains, 6)
    assert (found.zones, found.nodes, found.devices) == ((3, 3), (3, 2, 1), (1,) * 6)
    doubled = spread(domains, 8)
    assert (sum(doubled.devices), max(doubled.devices)) == (8, 2)
    assert survived(even_domains(nodes=6, zones=3), data=4, parity=2).zones == 1
    assert survived(even_domains(nodes=3, devices=6), data=4, parity=2).nodes == 1
    assert spread(Domains(zones=()), 3).devices == ()


def test_an_imagined_cluster_is_refused_when_it_cannot_be() -> None:
    assert even_domains(nodes=5, zones=2) == Domains(zones=((1, 1, 1), (1, 1)))
    assert even_domains(devices=4).nodes == 4
    for shape in ({"nodes": 3, "devices": 2}, {"nodes": 1, "zones": 2, "devices": 3}, {}, {"devices": 1 << 20}):
        with pytest.raises(InvalidArgument):
            even_domains(**shape)
