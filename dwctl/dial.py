"""Finding nodes that answer: handshakes are begun in order, the next one as soon as one refuses or is slow.

So a dead first node costs nothing, and a paused one a quarter of a second, where waiting for each in turn took seconds.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from queue import Empty, SimpleQueue
from typing import Any

import grpc

NEXT_SECONDS = 0.25
"""How long one may be silent before the next is tried beside it."""
CONNECT_SECONDS = 3.0
"""How long the last ones tried may be silent."""
REFUSED_SECONDS = 1.0
"""How long to go on when all refuse: a daemon that is being started anew listens by then."""


class Dial:
    """Channels to `addresses`; `close` closes every one."""

    def __init__(
        self, addresses: Sequence[str], credentials: grpc.ChannelCredentials, options: Sequence[tuple[str, Any]]
    ) -> None:
        self._credentials = credentials
        self._options = options
        self._untried = deque(addresses)
        self._channels: dict[str, grpc.Channel] = {}
        self._settled: set[str] = set()
        """Those that answered or refused."""
        self._tried_at = 0.0
        self._told: SimpleQueue[tuple[str, grpc.ChannelConnectivity]] = SimpleQueue()

    def answering(self) -> Iterator[tuple[str, grpc.Channel]]:
        """Nodes as they complete their handshake, until nobody is left who may."""
        while True:
            left = self._seconds_left()
            try:
                address, state = self._told.get(timeout=left) if left > 0 else self._told.get_nowait()
            except Empty:
                if not self._untried:
                    return
                self._try(self._untried.popleft())
                continue
            if state in {grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE}:
                self._settled.add(address)
            if state is grpc.ChannelConnectivity.READY:
                yield address, self._channels[address]

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()

    def _try(self, address: str) -> None:
        channel = grpc.secure_channel(address, self._credentials, options=self._options)
        self._channels[address] = channel
        self._tried_at = time.monotonic()
        channel.subscribe(lambda state: self._told.put((address, state)), try_to_connect=True)

    def _seconds_left(self) -> float:
        limits = (0.0, NEXT_SECONDS) if self._untried else (REFUSED_SECONDS, CONNECT_SECONDS)
        waiting = len(self._settled) < len(self._channels)
        return self._tried_at + limits[waiting] - time.monotonic()
