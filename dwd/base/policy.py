"""What a bucket asks of the block store: a profile, or what to choose one by."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

AUTO = "auto"
"""The profile that is chosen from tier, criticality and failure domains, for every write anew."""


class Tier(IntEnum):
    """The kind of customer whose data it is."""

    CLUSTER = 0
    """As the cluster's setting says."""
    INDIVIDUAL = 1
    SMB = 2
    ENTERPRISE = 3
    HIGH_STAKES = 4
    HYPERSCALE = 5


class Criticality(IntEnum):
    """How bad it would be to lose it."""

    NORMAL = 0
    LOW = 1
    HIGH = 2
    CRITICAL = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """`profile` is a name of `dwd.blocks.core.profiles`, AUTO or empty (which means AUTO). `allow_fallback`: rather a
    weaker profile, to be made good later, than a write refused for lack of devices.
    """

    profile: str = AUTO
    tier: Tier = Tier.CLUSTER
    criticality: Criticality = Criticality.NORMAL
    allow_fallback: bool = False


TIERS = {tier.name.lower().replace("_", "-"): tier for tier in Tier if tier}
"""By the names people use."""
CRITICALITIES = {criticality.name.lower(): criticality for criticality in Criticality}


def tier_name(tier: Tier) -> str:
    """Empty for the cluster's own."""
    return tier.name.lower().replace("_", "-") if tier else ""
