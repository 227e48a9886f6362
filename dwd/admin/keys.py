"""The cluster's keyring as operators see it, named keys, and how objects of buckets lie at rest."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from dwd.admin.context import OPERATOR, AdminContext
from dwd.base.errors import InvalidArgument, NotFound
from dwd.meta.core.control.commands import SetSetting
from dwd.meta.core.control.key_commands import CreateNamedKey, SetNamedKeyState
from dwd.meta.core.control.queries import ListBoxes, ListNamedKeys
from dwd.meta.core.control.rows import BoxKind, NamedKeyRow, Standing
from dwd.objects.buckets import (
    COMPRESSION_LEVEL_MAX,
    DEFAULT_COMPRESSION_SETTING,
    DEFAULT_ENCRYPTION_SETTING,
)
from dwd.objects.encryption import NOT_ENCRYPTED, Encryption, EncryptionMode
from dwd.objects.ports import BucketInfo
from dwd.security.boxes import box_version
from dwd.security.data_keys import new_named_key

OFF, ON, DEFAULT = "off", "on", "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """Of buckets that are told nothing."""

    compression: int
    encryption: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyringStatus:
    """`sealed`: (kind, version) to how many keys it wraps."""

    version: int
    versions: tuple[int, ...]
    sealed: dict[tuple[BoxKind, int], int]
    named_keys: tuple[NamedKeyRow, ...]


async def keyring_status(context: AdminContext) -> KeyringStatus:
    counts: Counter[tuple[BoxKind, int]] = Counter()
    for kind in BoxKind:
        after, more = "", True
        while more:
            answer = await context.meta.read(ListBoxes(kind=kind, after=after), deadline=context.deadline())
            counts.update((kind, box_version(one.box)) for one in answer.boxes)
            more = answer.more and bool(answer.boxes)
            after = answer.boxes[-1].name if answer.boxes else ""
    named = await context.meta.read(ListNamedKeys(), deadline=context.deadline())
    ring = context.keyring()
    return KeyringStatus(
        version=ring.active_version, versions=ring.versions, sealed=dict(counts), named_keys=named.keys
    )


async def create_named_key(context: AdminContext, name: str) -> NamedKeyRow:
    """Raises InvalidArgument, AlreadyExists, Busy."""
    command = CreateNamedKey(name=name, sealed_key=new_named_key(context.keyring(), name))
    await context.meta.control(command, deadline=context.deadline())
    return await _named_key(context, name)


async def set_named_key(context: AdminContext, name: str, *, enabled: bool) -> NamedKeyRow:
    """Raises NotFound."""
    standing = Standing.ENABLED if enabled else Standing.DISABLED
    await context.meta.control(SetNamedKeyState(name=name, standing=standing), deadline=context.deadline())
    return await _named_key(context, name)


async def _named_key(context: AdminContext, name: str) -> NamedKeyRow:
    found = await context.meta.read(ListNamedKeys(), deadline=context.deadline())
    row = next((one for one in found.keys if one.name == name), None)
    if row is None:
        raise NotFound("objects.no_such_named_key", f"there is no key named {name[:64]!r}")
    return row


async def set_bucket_at_rest(
    context: AdminContext, name: str, *, compression: int | None, encryption: str, named_key: str
) -> BucketInfo:
    """Raises InvalidArgument, NotFound, Conflict."""
    return await context.objects.set_bucket_at_rest(
        OPERATOR,
        name,
        compression=compression,
        encryption=parse_encryption(encryption, named_key),
        to_default=encryption == DEFAULT,
        deadline=context.deadline(),
    )


def parse_encryption(text: str, named_key: str) -> Encryption | None:
    """None leaves it as it is, or to the default. Raises InvalidArgument."""
    if named_key and text not in {"", ON}:
        raise InvalidArgument("bucket.named_key", "a named key goes with encryption")
    if named_key:
        return Encryption(mode=EncryptionMode.NAMED_KEY, named_key=named_key)
    if text in {"", DEFAULT}:
        return None
    if text not in {ON, OFF}:
        raise InvalidArgument("bucket.encryption", f"encryption is on, off or default, not {text[:32]!r}")
    return Encryption(mode=EncryptionMode.CLUSTER) if text == ON else NOT_ENCRYPTED


def encryption_name(encryption: Encryption) -> str:
    return OFF if encryption.mode is EncryptionMode.NONE else ON


def defaults(context: AdminContext) -> Defaults:
    topology = context.meta.view.topology()
    return Defaults(
        compression=int(topology.setting(DEFAULT_COMPRESSION_SETTING) or 0),
        encryption=topology.setting(DEFAULT_ENCRYPTION_SETTING) == ON,
    )


async def set_defaults(context: AdminContext, *, compression: int | None, encryption: str) -> Defaults:
    """Raises InvalidArgument."""
    wanted = {}
    if compression is not None:
        if compression > COMPRESSION_LEVEL_MAX:
            raise InvalidArgument("bucket.compression", f"a zstd level is at most {COMPRESSION_LEVEL_MAX}")
        wanted[DEFAULT_COMPRESSION_SETTING] = str(compression)
    if encryption:
        if encryption not in {ON, OFF}:
            raise InvalidArgument("bucket.encryption", f"encryption is on or off, not {encryption[:32]!r}")
        wanted[DEFAULT_ENCRYPTION_SETTING] = encryption
    known = defaults(context)
    for setting, value in wanted.items():
        await context.meta.control(SetSetting(name=setting, value=value), deadline=context.deadline())
    return Defaults(
        compression=known.compression if compression is None else compression,
        encryption=encryption == ON if encryption else known.encryption,
    )
