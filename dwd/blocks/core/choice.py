"""Which profile a bucket's blocks get: what it asks for, or what `auto` chooses; why, and at what price.

`auto` asks two questions.

1. How many losses must be survived? By customer tier and criticality:

       tier            low   normal   high   critical
       individual       1      1       2        2
       smb              1      2       2        3       (of clusters that do not say otherwise)
       enterprise       2      2       3        4
       high-stakes      3      3       4        4
       hyperscale       2      4       4        4

2. Which profile survives them most cheaply on the failure domains at hand? Domains are nodes; on a cluster of one
   node its devices. The last row of the column whose number of domains is there:

       survives 1         survives 2         survives 3         survives 4
        1  none            1  none            1  none            1  none
        2  replica-2       2  replica-2       2  replica-2       2  replica-2
        4  rs-2-1          3  replica-3       3  replica-3       3  replica-3
        7  rs-4-1          4  rs-2-2          4  replica-4       4  replica-4
                           5  rs-3-2          5  rs-2-3          5  replica-5
                           6  rs-4-2          6  rs-3-3          6  rs-2-4
                          12  rs-10-2 *       7  rs-4-3          7  rs-3-4
                                              9  rs-6-3          8  rs-4-4
                                                                10  rs-6-4
                                                                12  rs-8-4
                                                                20  rs-16-4 *

   * for the tier hyperscale only: wide stripes cost least to keep and most to rebuild.

   From three domains on every row goes on taking writes that survive one more loss while one domain is down, from six
   on while two are. Where there are several zones, and the tier is enterprise or above or the criticality high or
   above, only rows whose block also survives the loss of a zone are considered, if there is one.

When a bucket allows it and too few devices are up for its profile, `fallbacks` are tried in order: what survives as
much with fewer fragments first (dearer), then what survives less, copies at the end. Never a single copy: what nobody
promised to lose is not stored once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from dwd.base.errors import InvalidArgument
from dwd.base.policy import AUTO, Criticality, Policy, Tier, tier_name
from dwd.blocks.core.domains import Domains, Survived, spread, survived
from dwd.blocks.core.profiles import COPIES_MAX, Kind, Profile, parse_profile

TIER_DEFAULT = Tier.SMB

_BY_CRITICALITY = (Criticality.LOW, Criticality.NORMAL, Criticality.HIGH, Criticality.CRITICAL)
LOSSES: dict[Tier, dict[Criticality, int]] = {
    tier: dict(zip(_BY_CRITICALITY, losses, strict=True))
    for tier, losses in {
        Tier.INDIVIDUAL: (1, 1, 2, 2),
        Tier.SMB: (1, 2, 2, 3),
        Tier.ENTERPRISE: (2, 2, 3, 4),
        Tier.HIGH_STAKES: (3, 3, 4, 4),
        Tier.HYPERSCALE: (2, 4, 4, 4),
    }.items()
}
LADDERS: dict[int, tuple[tuple[int, str], ...]] = {
    1: ((1, "none"), (2, "replica-2"), (4, "rs-2-1"), (7, "rs-4-1")),
    2: ((1, "none"), (2, "replica-2"), (3, "replica-3"), (4, "rs-2-2"), (5, "rs-3-2"), (6, "rs-4-2"), (12, "rs-10-2")),
    3: (
        (1, "none"),
        (2, "replica-2"),
        (3, "replica-3"),
        (4, "replica-4"),
        (5, "rs-2-3"),
        (6, "rs-3-3"),
        (7, "rs-4-3"),
        (9, "rs-6-3"),
    ),
    4: (
        (1, "none"),
        (2, "replica-2"),
        (3, "replica-3"),
        (4, "replica-4"),
        (5, "replica-5"),
        (6, "rs-2-4"),
        (7, "rs-3-4"),
        (8, "rs-4-4"),
        (10, "rs-6-4"),
        (12, "rs-8-4"),
        (20, "rs-16-4"),
    ),
}
WIDE = frozenset({"rs-10-2", "rs-16-4"})
ZONES_MATTER = frozenset({Tier.ENTERPRISE, Tier.HIGH_STAKES, Tier.HYPERSCALE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """`survives` is what a block survives on the domains it was chosen for, which need not be all that the profile
    could; `shortfall` says what is missing for that, empty when nothing is. `meanwhile`: the fallback that is written
    until then, where the bucket allows one.
    """

    profile: Profile
    meanwhile: Profile | None
    reasons: tuple[str, ...]
    survives: Survived
    shortfall: str


@lru_cache(maxsize=1024)
def choose(policy: Policy, domains: Domains, tier: Tier = TIER_DEFAULT) -> Choice:
    """What the policy means on these domains; `tier` is the cluster's. Raises InvalidArgument."""
    if policy.profile in {"", AUTO}:
        profile, reasons = _choose_auto(policy.tier or tier or TIER_DEFAULT, policy, domains)
    else:
        profile, reasons = parse_profile(policy.profile), _asked_for(policy.profile)
    missing = shortfall(profile, domains)
    meanwhile = fallback_on(profile, domains) if missing and policy.allow_fallback else None
    written = meanwhile or profile
    return Choice(
        profile=profile,
        meanwhile=meanwhile,
        reasons=reasons,
        survives=survived(domains, data=written.data, parity=written.parity),
        shortfall=missing,
    )


def validate(policy: Policy, domains: Domains, tier: Tier = TIER_DEFAULT) -> Choice:
    """The choice, if the cluster can hold it. Raises InvalidArgument blocks.unknown_profile, blocks.too_few_devices:
    a policy that cannot be kept is refused when it is set, unless the bucket allows a fallback.
    """
    chosen = choose(policy, domains, tier)
    if chosen.shortfall and not policy.allow_fallback:
        profile = chosen.profile
        raise InvalidArgument(
            "blocks.too_few_devices",
            f"{profile.name} {chosen.shortfall}",
            hint="add devices, choose a profile with fewer fragments (`dwctl profile list`), or allow a fallback",
            devices_min=profile.devices_min,
            devices=domains.devices,
            nodes=domains.nodes,
        )
    return chosen


@lru_cache(maxsize=1024)
def shortfall(profile: Profile, domains: Domains) -> str:
    """What the domains lack for this profile, empty when nothing: a device for every fragment, and, where there are
    several nodes, so many of them that no node takes more fragments with it than may be lost.
    """
    if domains.devices < profile.fragments:
        return f"needs {profile.fragments} devices, the cluster has {domains.devices}"
    if not profile.parity or domains.nodes <= 1:
        return ""
    fullest = spread(domains, profile.fragments).nodes[0]
    if fullest <= profile.parity:
        return ""
    nodes = -(-profile.fragments // profile.parity)
    return (
        f"needs {profile.fragments} devices on at least {nodes} nodes, {profile.parity} on a node at most: "
        f"on {domains} one node would hold {fullest} of {profile.fragments} fragments, of which {profile.parity} may "
        "be lost"
    )


@lru_cache(maxsize=512)
def fallbacks(profile: Profile) -> tuple[Profile, ...]:
    """Weaker or dearer profiles of fewer fragments, in the order they are tried."""
    copies = profile.parity if profile.kind is Kind.COPIES else profile.parity + 1
    names = [f"replica-{n}" for n in range(min(copies, COPIES_MAX), 1, -1)]
    if profile.kind is Kind.REED_SOLOMON:
        names = [f"rs-{k}-{profile.parity}" for k in range(profile.data - 1, 1, -1)] + names
    return tuple(found for found in map(parse_profile, names) if found.fragments < profile.fragments)


def fallback_on(profile: Profile, domains: Domains) -> Profile | None:
    """The first fallback that these domains can hold."""
    return next((weaker for weaker in fallbacks(profile) if not shortfall(weaker, domains)), None)


def _asked_for(name: str) -> tuple[str, ...]:
    scheme = parse_profile(name).scheme
    return (f"{name} is what it asks for",) if scheme == name else (f"{name} is a name of {scheme}",)


def _choose_auto(tier: Tier, policy: Policy, domains: Domains) -> tuple[Profile, tuple[str, ...]]:
    wanted = LOSSES[tier][policy.criticality]
    one_node = domains.nodes <= 1
    at_hand = domains.devices if one_node else domains.nodes
    of_whom = f"{tier_name(tier)}{'' if policy.tier else ' (of the cluster)'}"
    reasons = [
        f"tier {of_whom} and criticality {policy.criticality.name.lower()}: {_losses(wanted)} to be survived",
        f"{domains}: {at_hand} failure domains{', the devices of the one node there is' if one_node else ''}",
    ]
    rows = [
        parse_profile(name)
        for domains_min, name in LADDERS[wanted]
        if max(at_hand, 1) >= domains_min and (tier is Tier.HYPERSCALE or name not in WIDE)
    ]
    zoned = [p for p in rows if len(domains.zones) > 1 and survived(domains, data=p.data, parity=p.parity).zones]
    asks_for_zones = tier in ZONES_MATTER or policy.criticality in {Criticality.HIGH, Criticality.CRITICAL}
    found = rows[-1]
    if len(domains.zones) > 1:
        if not asks_for_zones:
            reasons.append("the loss of a whole zone counts from tier enterprise or criticality high on")
        elif zoned:
            found = zoned[-1]
            reasons.append(f"of {len(domains.zones)} zones one may be lost with all its nodes")
        else:
            reasons.append("no profile of the table survives the loss of a zone here")
    if found.parity < wanted:
        reasons.append(f"more than {found.scheme} takes more domains: {_next_row(wanted, at_hand)}")
    return found, tuple(reasons)


def _next_row(wanted: int, at_hand: int) -> str:
    needed = next((d for d, name in LADDERS[wanted] if d > at_hand and parse_profile(name).parity >= wanted), 0)
    return f"{_losses(wanted)} are survived from {needed} on" if needed else "no profile of the table does"


def _losses(count: int) -> str:
    return "1 loss" if count == 1 else f"{count} losses"
