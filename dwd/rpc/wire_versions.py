"""Whether two nodes have a version in common of what they say to each other.

The caller states its range in the metadata, as `dwd-wire: LEAST-MOST` in decimal; a caller that states none is of
version 1. Ranges without a common version are refused, and the error names both.

Source: raft.md section 5.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from dwd.base.errors import InvalidArgument, VersionRefused

METADATA_KEY = "dwd-wire"
_RANGE = re.compile(r"([1-9][0-9]{0,8})-([1-9][0-9]{0,8})", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class WireVersions:
    least: int
    most: int

    def __str__(self) -> str:
        return f"{self.least}-{self.most}"

    def metadata(self) -> tuple[str, str]:
        return (METADATA_KEY, str(self))

    def require_common(self, other: WireVersions) -> None:
        """Raises VersionRefused when no version lies in both ranges."""
        if min(self.most, other.most) < max(self.least, other.least):
            raise VersionRefused(
                "rpc.wire_version",
                f"the caller speaks versions {other} between nodes, this node {self}",
                hint="upgrade the dwd binary of the older of the two nodes",
            )


WIRE = WireVersions(least=1, most=1)
"""What this binary speaks."""
UNSTATED = WireVersions(least=1, most=1)


def stated(metadata: Iterable[tuple[str, str | bytes]]) -> WireVersions:
    """What a caller states. Raises InvalidArgument for what is no range."""
    for key, value in metadata:
        if key == METADATA_KEY:
            match = _RANGE.fullmatch(value) if isinstance(value, str) else None
            if match is None or int(match[1]) > int(match[2]):
                raise InvalidArgument("rpc.wire_malformed", "a caller states no range of versions")
            return WireVersions(least=int(match[1]), most=int(match[2]))
    return UNSTATED
