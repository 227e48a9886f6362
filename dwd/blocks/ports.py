"""What `dwd.objects` knows of the block store, and what a stored block's row says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dwd.base.blocks import Handoff, StoredBlock
from dwd.base.policy import Policy
from dwd.runtime.files import Buffer

__all__ = ["BlockStore", "Handoff", "Owner", "StoredBlock"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Whose data a block is; written beside every fragment so that the volumes alone can tell."""

    bucket: str
    key: str


class BlockStore(Protocol):
    """Blocks of up to PACKED_BLOCK_BYTES_MAX over all devices of the region."""

    async def write(self, data: Buffer, *, policy: Policy, owner: Owner, deadline: float) -> StoredBlock:
        """Returns once every fragment is fsynced on a device. `deadline` in seconds of the monotonic clock.
        Raises Busy (no placement survives one more loss), Unavailable, NoSpace, DeadlineExceeded. Where the policy
        allows a fallback the row may say that another profile was `wanted`.
        """
        ...

    async def read(
        self, block: StoredBlock, *, owner: Owner, offset: int, length: int, deadline: float
    ) -> list[memoryview]:
        """Verified bytes [offset, offset+length) in pieces. Raises Unavailable, Corrupt, DeadlineExceeded."""
        ...

    def validate(self, policy: Policy) -> None:
        """Raises InvalidArgument blocks.unknown_profile, blocks.too_few_devices; Unavailable without a layout."""
        ...

    def wanted(self, policy: Policy, blocks: Sequence[StoredBlock]) -> tuple[StoredBlock, ...]:
        """Rows of blocks written under another policy, to be committed under this one: each says what it should be."""
        ...

    def discard(self, blocks: Sequence[StoredBlock]) -> None:
        """Give up blocks that no command names: their fragments are deleted in the background, as far as devices
        answer; the orphan sweep finds the rest. Returns at once.
        """
        ...
