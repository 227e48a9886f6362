"""Cutting a stream of buffers into blocks without copying where the pieces already fit."""

from __future__ import annotations

from dwd.base.limits import BLOCK_BYTES
from dwd.runtime.files import Buffer


class Cutter:
    """Feed buffers, take blocks of exactly `block_bytes`; the rest is the last, shorter block.

    A buffer that is a whole block passes through untouched; smaller ones are joined once. Holds less than one block.
    """

    def __init__(self, block_bytes: int = BLOCK_BYTES) -> None:
        self._block_bytes = block_bytes
        self._pieces: list[Buffer] = []
        self._held = 0

    @property
    def held(self) -> int:
        """Bytes fed and not yet taken."""
        return self._held

    def feed(self, data: Buffer) -> list[Buffer]:
        """The blocks that `data` completes, in order. `data` must not change afterwards."""
        if self._held + len(data) < self._block_bytes:
            if len(data):
                self._pieces.append(data)
                self._held += len(data)
            return []
        blocks: list[Buffer] = []
        view = memoryview(data)
        while self._held + len(view) >= self._block_bytes:
            step = self._block_bytes - self._held
            self._pieces.append(view[:step])
            blocks.append(self.rest())
            view = view[step:]
        if len(view):
            self._pieces.append(view)
            self._held = len(view)
        return blocks

    def rest(self) -> Buffer:
        """What is left; empty when the stream ended on a block's edge."""
        pieces, self._pieces, self._held = self._pieces, [], 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)
