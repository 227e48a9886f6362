"""Identifiers. Node, group, replica and device ids are 63-bit integers (they fit SQLite's signed 64) and unique
across regions; people see node and device ids as 16 hex digits.
"""

from __future__ import annotations

import re
from typing import NewType

from dwd.base.errors import InvalidArgument

NodeId = NewType("NodeId", int)
GroupId = NewType("GroupId", int)
ReplicaId = NewType("ReplicaId", int)
DeviceId = NewType("DeviceId", int)
SessionId = NewType("SessionId", int)
Term = NewType("Term", int)
LogIndex = NewType("LogIndex", int)
LayoutEpoch = NewType("LayoutEpoch", int)
ShardEpoch = NewType("ShardEpoch", int)
JobId = NewType("JobId", int)
"""Log index of the command that made the job: ids grow, and people see j142."""
ClusterId = NewType("ClusterId", str)
"""32 lower-case hex digits, minted once by `dwd init`."""
BlockId = NewType("BlockId", bytes)
"""16 bytes: 8 of stamp (big-endian, so ids sort by age), then 8 random ones, the first two of which place the block."""
Stamp = NewType("Stamp", int)
"""Hybrid logical clock: 48 bits of Unix milliseconds, 16 bits of counter. Kulkarni et al. 2014."""

CONTROL_GROUP = GroupId(0)
FIRST_SHARD_GROUP = GroupId(1)

ID_BITS = 63
BLOCK_ID_BYTES = 16
STAMP_COUNTER_BITS = 16

_JOB = re.compile(r"j([1-9][0-9]{0,18})")
_HEX16 = re.compile(r"[0-9a-f]{16}")


def hex_id(value: int) -> str:
    """`value` as people see it: 16 lower-case hex digits."""
    return f"{value:016x}"


def parse_hex_id(text: str) -> int:
    """The inverse of `hex_id`. Raises InvalidArgument for anything but 16 hex digits."""
    if _HEX16.fullmatch(text) is None:
        raise InvalidArgument("id.malformed", f"not an id of 16 hex digits: {text[:40]!r}")
    return int(text, 16)


def job_name(job: int) -> str:
    """`job` as people see it: j142."""
    return f"j{job}"


def parse_job_name(text: str) -> JobId:
    """The inverse of `job_name`. Raises InvalidArgument."""
    found = _JOB.fullmatch(text)
    if found is None or int(found[1]) >= 1 << ID_BITS:
        raise InvalidArgument("id.malformed", f"not the id of a job: {text[:40]!r}", hint="they look like j142")
    return JobId(int(found[1]))


def stamp_of(unix_ms: int) -> Stamp:
    """The smallest stamp of that millisecond."""
    return Stamp(unix_ms << STAMP_COUNTER_BITS)


def stamp_ms(stamp: Stamp) -> int:
    """Unix milliseconds of a stamp."""
    return stamp >> STAMP_COUNTER_BITS
