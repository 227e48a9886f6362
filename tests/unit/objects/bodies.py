"""Bodies that arrive in pieces and break off when told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from dwd.base.errors import InvalidArgument
from dwd.base.limits import BLOCK_BYTES
from dwd.objects.ports import Caller, Checksum
from dwd.runtime.files import Buffer

ADMIN = Caller(user="u", access_key="A", admin=True)


def pattern(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


@dataclass(slots=True)
class Pieces:
    """`count` blocks of data, then: an error (`breaks`), a wait that never ends (`hangs`), or the end."""

    count: int
    breaks: bool = False
    hangs: bool = False
    kept: Checksum | None = None
    taken: int = 0

    @property
    def length(self) -> int | None:
        return None

    @property
    def data(self) -> bytes:
        return b"".join(bytes([number]) * BLOCK_BYTES for number in range(self.count))

    async def chunks(self) -> AsyncGenerator[Buffer, None]:
        for number in range(self.count):
            self.taken += 1
            yield bytes([number]) * BLOCK_BYTES
        if self.breaks:
            raise InvalidArgument("s3.bad_digest", "does not match")
        if self.hangs:
            await asyncio.Event().wait()

    def checksum(self) -> Checksum | None:
        return self.kept
