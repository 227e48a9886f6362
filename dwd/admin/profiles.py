"""What operators ask of profiles: which there are, what a bucket gets and why, the cluster's tier."""

from __future__ import annotations

from dataclasses import dataclass

from dwd.admin.context import AdminContext
from dwd.base.errors import InvalidArgument, NotFound, Unavailable
from dwd.base.policy import AUTO, CRITICALITIES, TIERS, Criticality, Policy, Tier, tier_name
from dwd.blocks.core.choice import Choice, choose
from dwd.blocks.core.domains import Domains, even_domains
from dwd.blocks.core.profiles import ALIASES, Profile, parse_profile
from dwd.blocks.layouts import DEFAULT_PROFILE_SETTING
from dwd.blocks.policies import TIER_SETTING, layout_domains, tier_of
from dwd.meta.core.control.commands import SetSetting
from dwd.meta.core.control.queries import GetBucket

LISTED = (
    "none", "replica-2", "replica-3", "replica-4", "replica-5", "rs-2-1", "rs-4-2", "rs-6-3", "rs-8-4", "rs-10-2",
    "rs-16-4", "raid6-2", "raid6-4", "raid6-8", "raidz3-3", "raidz3-5", *ALIASES,
)  # fmt: skip
"""Of the families, those that have a name elsewhere or are typical."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """`bucket` is empty when none was named; `domains` are the cluster's or those that were imagined."""

    bucket: str
    policy: Policy
    choice: Choice
    domains: Domains


def domains(context: AdminContext) -> Domains:
    """Of this cluster. Raises Unavailable while there is no layout."""
    return layout_domains(context.topology.layout())


def tier(context: AdminContext) -> Tier:
    """The cluster's."""
    return tier_of(context.meta.view.topology())


def default_profile(context: AdminContext) -> str:
    return context.meta.view.topology().setting(DEFAULT_PROFILE_SETTING) or AUTO


def listed() -> tuple[Profile, ...]:
    return tuple(parse_profile(name) for name in LISTED)


async def explain(
    context: AdminContext, what: str, asked: Policy, imagined: Domains | None, *, is_bucket: bool = False
) -> Explanation:
    """`what`: a profile, else a bucket; nothing: auto by what `asked` says. `asked` overrides a bucket's own tier and
    criticality. Raises NotFound, InvalidArgument.
    """
    bucket, policy = "", asked
    if is_bucket or (what and not _is_profile(what)):
        row = (await context.meta.read(GetBucket(name=what), deadline=context.deadline())).bucket
        if row is None:
            raise NotFound(
                "objects.no_such_bucket",
                f"{what[:64]!r} is neither a profile nor a bucket",
                hint="`dwctl profile list` and `dwctl bucket list` show what there is",
            )
        bucket = row.name
        policy = Policy(
            profile=row.profile,
            tier=asked.tier or row.tier,
            criticality=asked.criticality or row.criticality,
            allow_fallback=row.allow_fallback,
        )
    elif what:
        policy = Policy(profile=what, tier=asked.tier, criticality=asked.criticality)
    where = imagined or domains(context)
    return Explanation(bucket=bucket, policy=policy, choice=choose(policy, where, tier(context)), domains=where)


def stored_as(context: AdminContext, policy: Policy) -> str:
    """The scheme that the policy means today; empty while there is no layout."""
    try:
        here = domains(context)
    except Unavailable:
        return ""
    chosen = choose(policy, here, tier(context))
    return (chosen.meanwhile or chosen.profile).scheme


async def set_tier(context: AdminContext, name: str) -> bool:
    """Whether it changed. Writes of buckets that name no tier go by it at once. Raises InvalidArgument."""
    wished = parse_tier(name)
    before = tier(context)
    if wished is not before:
        command = SetSetting(name=TIER_SETTING, value=tier_name(wished))
        await context.meta.control(command, deadline=context.deadline())
    return wished is not before


def imagine(*, devices: int, nodes: int, zones: int) -> Domains | None:
    """None when nothing is said. Raises InvalidArgument."""
    return even_domains(devices=devices, nodes=nodes, zones=zones) if devices or nodes or zones else None


def parse_policy(*, profile: str, tier: str, criticality: str, allow_fallback: bool) -> Policy:
    """By the names people use; empty: not said. Raises InvalidArgument."""
    return Policy(
        profile=profile,
        tier=parse_tier(tier) if tier else Tier.CLUSTER,
        criticality=_parse_criticality(criticality) if criticality else Criticality.NORMAL,
        allow_fallback=allow_fallback,
    )


def parse_tier(name: str) -> Tier:
    found = TIERS.get(name.lower())
    if found is None:
        raise InvalidArgument("profile.no_such_tier", f"not a tier: {name[:40]!r}", hint=f"one of {', '.join(TIERS)}")
    return found


def _parse_criticality(name: str) -> Criticality:
    found = CRITICALITIES.get(name.lower())
    if found is None:
        names = ", ".join(c for c in CRITICALITIES)
        raise InvalidArgument(
            "profile.no_such_criticality", f"not a criticality: {name[:40]!r}", hint=f"one of {names}"
        )
    return found


def _is_profile(name: str) -> bool:
    if name == AUTO:
        return True
    try:
        parse_profile(name)
    except InvalidArgument:
        return False
    return True
