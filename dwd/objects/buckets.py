"""Buckets: create, delete, look, list."""

from __future__ import annotations

from dataclasses import replace

from dwd.base.errors import PermissionDenied
from dwd.base.ids import stamp_ms
from dwd.base.policy import AUTO, Policy
from dwd.meta.core.control.commands import CreateBucket
from dwd.meta.core.control.queries import ListBuckets
from dwd.objects.context import Context, bucket_for, bucket_info
from dwd.objects.core.names import check_bucket_name
from dwd.objects.ports import BucketInfo, Caller

DEFAULT_PROFILE_SETTING = "blocks.default_profile"
"""Control setting: the profile of buckets that name none."""
PAGE = 1_000


async def create_bucket(
    context: Context, caller: Caller, bucket: str, *, policy: Policy, deadline: float
) -> BucketInfo:
    """Raises AlreadyExists objects.bucket_owned_by_you / objects.bucket_exists, InvalidArgument (name, profile, too few
    devices for it).
    """
    check_bucket_name(bucket)
    if policy.profile not in {"", AUTO}:
        context.blocks.validate(policy)
    default = context.meta.view.topology().setting(DEFAULT_PROFILE_SETTING) or AUTO
    policy = replace(policy, profile=policy.profile or default)
    command = CreateBucket(
        name=bucket,
        owner=caller.user,
        profile=policy.profile,
        tier=policy.tier,
        criticality=policy.criticality,
        allow_fallback=policy.allow_fallback,
    )
    receipt = await context.meta.control(command, deadline=deadline)
    return BucketInfo(name=bucket, owner=caller.user, policy=policy, created_unix_ms=stamp_ms(receipt.stamp))


async def delete_bucket(context: Context, caller: Caller, bucket: str, *, deadline: float) -> None:
    """Raises NotFound objects.no_such_bucket, Conflict objects.bucket_not_empty, PermissionDenied."""
    row = await bucket_for(context, caller, bucket, deadline=deadline)
    await context.meta.delete_bucket(row.name, deadline=deadline)


async def bucket(context: Context, caller: Caller, name: str, *, deadline: float) -> BucketInfo:
    """Raises NotFound objects.no_such_bucket, PermissionDenied."""
    return bucket_info(await bucket_for(context, caller, name, deadline=deadline))


async def buckets(context: Context, caller: Caller, *, deadline: float) -> tuple[BucketInfo, ...]:
    """Those the caller may act on, by name, as control has them now."""
    if not caller.user:
        raise PermissionDenied("objects.access_denied", "sign the request to list buckets")
    owner = "" if caller.admin else caller.user
    found: list[BucketInfo] = []
    after, more = "", True
    while more:
        query = ListBuckets(owner=owner, after=after, limit=PAGE)
        answer = await context.meta.read(query, deadline=deadline)
        found.extend(bucket_info(row) for row in answer.buckets)
        more = answer.more and bool(answer.buckets)
        after = answer.buckets[-1].name if answer.buckets else ""
    return tuple(found)
