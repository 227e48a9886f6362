"""What a bucket's policy means on the cluster as it is: the setting that names its tier, the domains of a layout."""

from __future__ import annotations

from dwd.base.policy import TIERS, Policy, Tier
from dwd.blocks.core.choice import TIER_DEFAULT, Choice, choose
from dwd.blocks.core.domains import Domains, domains_of
from dwd.blocks.core.layout import Layout
from dwd.meta.core.control.queries import Topology

TIER_SETTING = "blocks.tier"
"""Control setting: the customer tier of buckets that name none."""


def tier_of(topology: Topology) -> Tier:
    """The cluster's; a name this daemon does not know counts as none."""
    return TIERS.get(topology.setting(TIER_SETTING), TIER_DEFAULT)


def choice_on(policy: Policy, layout: Layout, topology: Topology) -> Choice:
    """What the policy means on that layout. Raises InvalidArgument blocks.unknown_profile."""
    return choose(policy, layout_domains(layout), tier_of(topology))


def layout_domains(layout: Layout) -> Domains:
    """Of the devices that stand in the layout."""
    return domains_of((d.zone, d.node) for d in layout.devices)
