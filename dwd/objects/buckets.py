"""Buckets: create, delete, look, list."""

from __future__ import annotations

from dataclasses import replace

from dwd.base.errors import PermissionDenied
from dwd.base.ids import stamp_ms
from dwd.base.policy import AUTO, Policy
from dwd.blocks.layouts import DEFAULT_PROFILE_SETTING
from dwd.meta.core.control.commands import CreateBucket
from dwd.meta.core.control.queries import ListBuckets
from dwd.objects.at_rest import at_rest_of, encryption_of
from dwd.objects.context import Context, bucket_for, bucket_info, fresh_bucket
from dwd.objects.core.frames import LEVEL_MAX
from dwd.objects.core.names import check_bucket_name
from dwd.objects.encryption import NOT_ENCRYPTED, Encryption, EncryptionMode
from dwd.objects.ports import BucketInfo, Caller

DEFAULT_COMPRESSION_SETTING = "objects.default_compression"
"""Control setting: the zstd level of buckets that name none."""
DEFAULT_ENCRYPTION_SETTING = "objects.default_encryption"
"""Control setting: "on" for buckets that are not told."""
COMPRESSION_LEVEL_MAX = LEVEL_MAX
PAGE = 1_000


async def create_bucket(
    context: Context,
    caller: Caller,
    bucket: str,
    *,
    policy: Policy,
    compression: int | None = None,
    encryption: Encryption | None = None,
    deadline: float,
) -> BucketInfo:
    """Raises AlreadyExists objects.bucket_owned_by_you / objects.bucket_exists, InvalidArgument (name, profile, too few
    devices for it), NotFound objects.no_such_named_key.
    """
    check_bucket_name(bucket)
    if policy.profile not in {"", AUTO}:
        context.blocks.validate(policy)
    default = context.meta.view.topology().setting(DEFAULT_PROFILE_SETTING) or AUTO
    policy = replace(policy, profile=policy.profile or default)
    at_rest = at_rest_of(
        default_compression(context) if compression is None else compression,
        default_encryption(context) if encryption is None else encryption,
    )
    command = CreateBucket(
        name=bucket,
        owner=caller.user,
        profile=policy.profile,
        tier=policy.tier,
        criticality=policy.criticality,
        allow_fallback=policy.allow_fallback,
        at_rest=at_rest,
        sealed_key=context.keys.new_bucket_key(bucket),
    )
    receipt = await context.meta.control(command, deadline=deadline)
    return BucketInfo(
        name=bucket,
        owner=caller.user,
        policy=policy,
        created_unix_ms=stamp_ms(receipt.stamp),
        compression=at_rest.compression,
        encryption=encryption_of(at_rest),
    )


def default_compression(context: Context) -> int:
    """Of buckets that are told nothing: the cluster's setting, else none."""
    text = context.meta.view.topology().setting(DEFAULT_COMPRESSION_SETTING)
    return int(text) if text else 0


def default_encryption(context: Context) -> Encryption:
    """Of buckets that are told nothing: the cluster's setting, else none."""
    text = context.meta.view.topology().setting(DEFAULT_ENCRYPTION_SETTING)
    return Encryption(mode=EncryptionMode.CLUSTER) if text == "on" else NOT_ENCRYPTED


async def set_bucket_at_rest(
    context: Context,
    caller: Caller,
    bucket: str,
    *,
    compression: int | None = None,
    encryption: Encryption | None = None,
    to_default: bool = False,
    deadline: float,
) -> BucketInfo:
    """Acknowledged once every shard refuses who saw the bucket before. Raises NotFound objects.no_such_bucket,
    objects.no_such_named_key; InvalidArgument; PermissionDenied.
    """
    row = await bucket_for(context, caller, bucket, deadline=deadline)
    chosen = default_encryption(context) if to_default else encryption
    row = await fresh_bucket(context, row.name, deadline=deadline)
    at_rest = at_rest_of(
        row.at_rest.compression if compression is None else compression,
        encryption_of(row.at_rest) if chosen is None else chosen,
    )
    await context.meta.set_bucket_at_rest(row.name, at_rest, deadline=deadline)
    return bucket_info(await fresh_bucket(context, row.name, deadline=deadline))


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
