"""Fault-tolerance profiles: how a block becomes fragments, what that costs and what it survives.

A *profile* is what a bucket asks for; a *scheme* is what one block was really stored as (`StoredBlock.profile`).
They differ where a name is an alias (standard -> rs-6-3, raid6-4 -> rs-4-2), where `auto` chooses, and for small
blocks: below `SMALL_BLOCK_BYTES` a Reed-Solomon profile stores M+1 copies, which survive the same losses with half
the messages to write and one to read.
Which profile a bucket's word means on a cluster: dwd.blocks.core.choice.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from dwd.base.errors import InvalidArgument
from dwd.base.limits import SMALL_BLOCK_BYTES

COPIES_MAX = 5
"""Copies a bucket may ask for."""
DATA_FRAGMENTS_MAX = 20
PARITY_FRAGMENTS_MAX = 6
FRAGMENTS_MAX = DATA_FRAGMENTS_MAX + PARITY_FRAGMENTS_MAX
SCHEME_COPIES_MAX = max(COPIES_MAX, PARITY_FRAGMENTS_MAX + 1)
"""Copies a small block of a Reed-Solomon profile may have."""

ALIASES = {
    "standard": "rs-6-3",
    "high-durability": "rs-8-4",
    "storage-optimised": "rs-10-2",
    "hyperscale": "rs-16-4",
}
"""Names in the literature."""

_NAME = re.compile(r"(none)|replica-(\d{1,2})|rs-(\d{1,2})-(\d{1,2})|raid6-(\d{1,2})|raidz3-(\d{1,2})")


class Kind(Enum):
    COPIES = "copies"
    REED_SOLOMON = "reed-solomon"


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """`data` fragments are plain slices of the block and rebuild it alone; any `data` of all fragments rebuild it too.

    Copies are the case data = 1: every fragment is the block.
    """

    name: str
    kind: Kind
    data: int
    parity: int

    @property
    def fragments(self) -> int:
        return self.data + self.parity

    @property
    def losses_survived(self) -> int:
        return self.parity

    @property
    def devices_min(self) -> int:
        return self.fragments

    @property
    def overhead(self) -> float:
        """Bytes on devices for a byte of data."""
        return self.fragments / self.data

    @property
    def scheme(self) -> str:
        """The canonical name, free of aliases."""
        if self.kind is Kind.REED_SOLOMON:
            return f"rs-{self.data}-{self.parity}"
        return "none" if self.parity == 0 else f"replica-{self.fragments}"

    def fragment_length(self, block_length: int) -> int:
        """Bytes of each fragment of a block of that length; the last data fragments are padded with zeros."""
        return -(-block_length // self.data)


@lru_cache(maxsize=512)
def parse_profile(name: str) -> Profile:
    """The profile a bucket asks for; `auto` is none. Raises InvalidArgument blocks.unknown_profile."""
    profile = _parse(name, copies_max=COPIES_MAX)
    if profile is None:
        raise InvalidArgument(
            "blocks.unknown_profile",
            f"not a profile: {name[:40]!r}",
            hint=f"none, replica-2..{COPIES_MAX}, rs-K-M (K 1..{DATA_FRAGMENTS_MAX}, M 1..{PARITY_FRAGMENTS_MAX}), "
            f"raid6-K, raidz3-K (K >= 2), {', '.join(ALIASES)} or auto",
        )
    return profile


@lru_cache(maxsize=512)
def parse_scheme(name: str) -> Profile:
    """The scheme of a stored block: also the copies of small blocks. Raises InvalidArgument."""
    return _parse(name, copies_max=SCHEME_COPIES_MAX) or parse_profile(name)


@lru_cache(maxsize=512)
def _small(profile: Profile) -> Profile:
    return Profile(name=f"replica-{profile.parity + 1}", kind=Kind.COPIES, data=1, parity=profile.parity)


def scheme_for(profile: Profile, block_length: int, *, small_block_bytes: int = SMALL_BLOCK_BYTES) -> Profile:
    """How a block of that length is really stored under `profile`."""
    if profile.kind is Kind.REED_SOLOMON and block_length < small_block_bytes:
        return _small(profile)
    return profile


def _parse(name: str, *, copies_max: int) -> Profile | None:
    match = _NAME.fullmatch(ALIASES.get(name, name))
    if match is None:
        return None
    none, copies, data, parity, raid6, raidz3 = match.groups()
    if none:
        return Profile(name=name, kind=Kind.COPIES, data=1, parity=0)
    if copies:
        count = int(copies)
        return Profile(name=name, kind=Kind.COPIES, data=1, parity=count - 1) if 2 <= count <= copies_max else None
    k, m, k_min = (int(data), int(parity), 1) if data else (int(raid6), 2, 2) if raid6 else (int(raidz3), 3, 2)
    if not (k_min <= k <= DATA_FRAGMENTS_MAX and 1 <= m <= PARITY_FRAGMENTS_MAX):
        return None
    return Profile(name=name, kind=Kind.REED_SOLOMON, data=k, parity=m)
