"""CreateBucket, SetBucketAtRest, SetBucketPolicy, and the three steps of deleting one: begin, then cancel or finish."""

from __future__ import annotations

from dwd.base.errors import AlreadyExists, Busy, Conflict, InvalidArgument, NotFound
from dwd.meta.core.control.commands import (
    BeginDeleteBucket,
    CancelDeleteBucket,
    CreateBucket,
    FinishDeleteBucket,
    SetBucketAtRest,
    SetBucketPolicy,
)
from dwd.meta.core.control.keys import require_present
from dwd.meta.core.control.rows import AtRest, BucketState, Encryption
from dwd.meta.core.control.state import Control, Part, check_name
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.tx import At

BUCKETS_MAX = 100_000
COMPRESSION_LEVEL_MAX = 19
SEALED_KEY_BYTES_MAX = 256
PROFILE_CHARACTERS_MAX = 32


def create_bucket(control: Control, command: CreateBucket, at: At) -> Receipt:
    check_name(command.name, "a bucket's name")
    if "/" in command.name or len(command.profile) > PROFILE_CHARACTERS_MAX:
        raise InvalidArgument("meta.bucket_name", "not a bucket name or profile")
    _check_at_rest(control, command.at_rest)
    if len(command.sealed_key) > SEALED_KEY_BYTES_MAX:
        raise InvalidArgument("meta.blob_length", "not a sealed key of a bucket")
    require_present(control, command.sealed_key)
    row = control.tx.row("SELECT owner, state FROM buckets WHERE name = ?", (command.name,))
    if row is not None:
        if row[0] == command.owner:
            raise AlreadyExists("objects.bucket_owned_by_you", f"bucket {command.name} is yours already")
        raise AlreadyExists("objects.bucket_exists", f"the name {command.name} is taken")
    if control.tx.row("SELECT 1 FROM users WHERE name = ?", (command.owner,)) is None:
        raise NotFound("meta.no_such_user", f"there is no user {command.owner}")
    count = control.tx.row("SELECT count(*) FROM buckets") or (0,)
    if count[0] >= BUCKETS_MAX:
        raise Busy("meta.buckets", f"there may be {BUCKETS_MAX} buckets")
    control.tx.run(
        "INSERT INTO buckets VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            command.name,
            command.owner,
            command.profile,
            BucketState.ACTIVE,
            at.index,
            at.stamp,
            command.at_rest.compression,
            command.at_rest.encryption,
            command.at_rest.named_key,
            command.sealed_key,
            command.tier,
            command.criticality,
            int(command.allow_fallback),
        ),
    )
    control.touched.add(Part.BUCKETS)
    return Receipt(index=at.index, stamp=at.stamp, count=at.index)


def set_bucket_policy(control: Control, command: SetBucketPolicy, at: At) -> Receipt:
    if not command.profile or len(command.profile) > PROFILE_CHARACTERS_MAX:
        raise InvalidArgument("meta.bucket_profile", "not a profile")
    state, epoch = _require(control, command.name)
    wished = (command.profile, command.tier, command.criticality, int(command.allow_fallback))
    present = control.tx.row(
        "SELECT profile, tier, criticality, allow_fallback FROM buckets WHERE name = ?", (command.name,)
    )
    if present == wished:
        return Receipt(index=at.index, stamp=at.stamp, count=epoch, existed=True)
    if state != BucketState.ACTIVE:
        raise Busy("meta.bucket_sealed", f"bucket {command.name} is being deleted")
    if command.expected_epoch not in {0, epoch}:
        raise Conflict("meta.bucket_changed", f"bucket {command.name} changed meanwhile", epoch=epoch)
    control.tx.run(
        "UPDATE buckets SET profile = ?, tier = ?, criticality = ?, allow_fallback = ?, epoch = ? WHERE name = ?",
        (*wished, at.index, command.name),
    )
    control.touched.add(Part.BUCKETS)
    return Receipt(index=at.index, stamp=at.stamp, count=at.index)


def set_bucket_at_rest(control: Control, command: SetBucketAtRest, at: At) -> Receipt:
    _check_at_rest(control, command.at_rest)
    row = control.tx.row(
        "SELECT state, epoch, compression, encryption, named_key FROM buckets WHERE name = ?", (command.name,)
    )
    if row is None:
        raise NotFound("objects.no_such_bucket", f"there is no bucket {command.name}")
    if row[0] != BucketState.ACTIVE or (command.epoch and command.epoch != row[1]):
        raise Conflict("meta.bucket_changed", f"bucket {command.name} changed meanwhile", epoch=row[1])
    wanted = (command.at_rest.compression, command.at_rest.encryption, command.at_rest.named_key)
    if tuple(row[2:]) == wanted:
        return Receipt(index=at.index, stamp=at.stamp, existed=True, count=row[1])
    control.tx.run(
        "UPDATE buckets SET compression = ?, encryption = ?, named_key = ?, epoch = ? WHERE name = ?",
        (*wanted, at.index, command.name),
    )
    control.touched.add(Part.BUCKETS)
    return Receipt(index=at.index, stamp=at.stamp, existed=True, count=at.index)


def _check_at_rest(control: Control, at_rest: AtRest) -> None:
    if not 0 <= at_rest.compression <= COMPRESSION_LEVEL_MAX:
        raise InvalidArgument("meta.compression", f"a compression level is between 0 and {COMPRESSION_LEVEL_MAX}")
    if (at_rest.encryption is Encryption.NAMED_KEY) != bool(at_rest.named_key):
        raise InvalidArgument("meta.named_key", "encryption with a named key, and no other, names one")
    if at_rest.named_key and control.tx.row("SELECT 1 FROM named_keys WHERE name = ?", (at_rest.named_key,)) is None:
        raise NotFound("objects.no_such_named_key", f"there is no key named {at_rest.named_key}")


def begin_delete_bucket(control: Control, command: BeginDeleteBucket, at: At) -> Receipt:
    """Each deletion has an epoch of its own: the seal covers every write that saw the bucket before, and an unseal that
    an earlier, cancelled deletion sent late cannot open what this one has closed.
    """
    if command.epoch:
        _require_deleting(control, command.name, command.epoch)
    state, epoch = _require(control, command.name)
    if state != BucketState.DELETING:
        epoch = at.index
        control.tx.run(
            "UPDATE buckets SET state = ?, epoch = ? WHERE name = ?", (BucketState.DELETING, epoch, command.name)
        )
        control.touched.add(Part.BUCKETS)
    return Receipt(index=at.index, stamp=at.stamp, count=epoch)


def cancel_delete_bucket(control: Control, command: CancelDeleteBucket, at: At) -> Receipt:
    _require_deleting(control, command.name, command.epoch)
    control.tx.run(
        "UPDATE buckets SET state = ?, epoch = ? WHERE name = ?", (BucketState.ACTIVE, at.index, command.name)
    )
    control.touched.add(Part.BUCKETS)
    return Receipt(index=at.index, stamp=at.stamp, count=at.index)


def finish_delete_bucket(control: Control, command: FinishDeleteBucket, at: At) -> Receipt:
    row = control.tx.row("SELECT 1 FROM buckets WHERE name = ?", (command.name,))
    if row is None:
        return Receipt(index=at.index, stamp=at.stamp)
    _require_deleting(control, command.name, command.epoch)
    control.tx.run("DELETE FROM buckets WHERE name = ?", (command.name,))
    control.touched.add(Part.BUCKETS)
    return Receipt(index=at.index, stamp=at.stamp, existed=True)


def _require(control: Control, name: str) -> tuple[int, int]:
    """(state, epoch)."""
    row = control.tx.row("SELECT state, epoch FROM buckets WHERE name = ?", (name,))
    if row is None:
        raise NotFound("objects.no_such_bucket", f"there is no bucket {name}")
    return row[0], row[1]


def _require_deleting(control: Control, name: str, epoch: int) -> None:
    state, present = _require(control, name)
    if state != BucketState.DELETING or present != epoch:
        raise Conflict("meta.bucket_not_deleting", f"bucket {name} changed meanwhile", epoch=present)
