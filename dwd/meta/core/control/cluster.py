"""InitialiseCluster, SetSetting, SetShardMap."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

from dwd.base.errors import AlreadyExists, Busy, Conflict, InvalidArgument
from dwd.meta.core.control.commands import InitialiseCluster, SetSetting, SetShardMap
from dwd.meta.core.control.rows import ShardRange
from dwd.meta.core.control.state import Control, Part, check_blob, check_name, check_text
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.tx import At

SETTINGS_MAX = 10_000
SHARDS_MAX = 100_000
_CLUSTER_ID = re.compile(r"[0-9a-f]{32}")


def initialise_cluster(control: Control, command: InitialiseCluster, at: At) -> Receipt:
    if _CLUSTER_ID.fullmatch(command.cluster) is None:
        raise InvalidArgument("meta.cluster_id", "a cluster id has 32 lower-case hex digits")
    check_name(command.name, "a cluster's name")
    check_blob(command.authority_certificate, command.sealed_authority_key)
    _check_ranges(command.shards)
    row = control.tx.row("SELECT cluster FROM cluster")
    if row is not None:
        if row[0] == command.cluster:
            return Receipt(index=at.index, stamp=at.stamp, existed=True)
        raise AlreadyExists("meta.cluster_exists", f"this is cluster {row[0]} already")

    control.tx.run(
        "INSERT INTO cluster VALUES (1, ?, ?, ?, ?, ?, ?)",
        (
            command.cluster,
            command.name,
            command.authority_certificate,
            command.sealed_authority_key,
            command.keyring_version,
            at.stamp,
        ),
    )
    _write_ranges(control, 1, command.shards)
    return Receipt(index=at.index, stamp=at.stamp)


def set_shard_map(control: Control, command: SetShardMap, at: At) -> Receipt:
    _check_ranges(command.ranges)
    row = control.tx.row("SELECT epoch FROM shard_map")
    present = 0 if row is None else row[0]
    if command.epoch != present + 1:
        raise Conflict("meta.shard_epoch", f"the shard map stands at epoch {present}", epoch=present)
    _write_ranges(control, command.epoch, command.ranges)
    return Receipt(index=at.index, stamp=at.stamp)


def _check_ranges(ranges: Sequence[ShardRange]) -> None:
    starts = [r.start for r in ranges]
    if not 0 < len(ranges) <= SHARDS_MAX or starts[0] != b"" or any(a >= b for a, b in pairwise(starts)):
        raise InvalidArgument("meta.shard_ranges", "shards cover all keys from the empty one on, in ascending order")
    if any(r.group <= 0 for r in ranges):
        raise InvalidArgument("meta.shard_group", "a shard's group has a positive id")


def _write_ranges(control: Control, epoch: int, ranges: Sequence[ShardRange]) -> None:
    control.tx.run("INSERT OR REPLACE INTO shard_map VALUES (1, ?)", (epoch,))
    control.tx.run("DELETE FROM shard_ranges")
    control.tx.run_many("INSERT INTO shard_ranges VALUES (?, ?)", [(r.start, r.group) for r in ranges])
    control.touched.add(Part.TOPOLOGY)


def set_setting(control: Control, command: SetSetting, at: At) -> Receipt:
    check_name(command.name, "a setting's name")
    check_text(command.value)
    old = control.tx.row("SELECT value FROM settings WHERE name = ?", (command.name,))
    present = "" if old is None else old[0]
    if command.expected is not None and present not in {command.expected, command.value}:
        raise Conflict("meta.setting_changed", f"the setting {command.name} was changed meanwhile")
    count = control.tx.row("SELECT count(*) FROM settings") or (0,)
    if old is None and command.value and count[0] >= SETTINGS_MAX:
        raise Busy("meta.settings", f"there may be {SETTINGS_MAX} settings")
    if command.value:
        control.tx.run("INSERT OR REPLACE INTO settings VALUES (?, ?, ?)", (command.name, command.value, at.stamp))
    else:
        control.tx.run("DELETE FROM settings WHERE name = ?", (command.name,))
    control.touched.add(Part.TOPOLOGY)
    return Receipt(index=at.index, stamp=at.stamp, existed=old is not None)
