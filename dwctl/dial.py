"""Finding nodes that answer: they are asked in order, the next one as soon as one refuses or is slow.

So a dead first node costs nothing, and a paused one a quarter of a second, where waiting for each in turn took seconds.

Hazard: a channel's connectivity is not watched for this. grpc watches it in a thread of its own, which prints a
traceback when the channel is closed between two of its looks; a call that is under way is cancelled quietly.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

import grpc

from dwd.pb.admin.v1 import consensus_pb2, consensus_pb2_grpc

NEXT_SECONDS = 0.25
"""How long one may be silent before the next is tried beside it."""
CONNECT_SECONDS = 3.0
"""How long the last ones tried may be silent."""
REFUSED_SECONDS = 1.0
"""How long to go on when all refuse: a daemon that is being started anew listens by then."""
_SILENT = {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """A node that answers. `epoch`: of quorum recovery, 0 where it knows of none, -1 where it would not tell."""

    address: str
    channel: grpc.Channel
    epoch: int


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
        self._told: SimpleQueue[tuple[str, Any]] = SimpleQueue()

    def answering(self) -> Iterator[Answering]:
        """Nodes as they answer, until nobody is left who may."""
        while True:
            left = self._seconds_left()
            try:
                address, call = self._told.get(timeout=left) if left > 0 else self._told.get_nowait()
            except Empty:
                if not self._untried:
                    return
                self._try(self._untried.popleft())
                continue
            code = call.code()
            if code is grpc.StatusCode.UNAVAILABLE:
                if address not in self._settled:
                    self._settled.add(address)
                    self._ask(address, wait=True)
            elif code not in _SILENT:
                self._settled.add(address)
                epoch = call.result().epoch if code is grpc.StatusCode.OK else -1
                yield Answering(address=address, channel=self._channels[address], epoch=epoch)

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()

    def _try(self, address: str) -> None:
        self._channels[address] = grpc.secure_channel(address, self._credentials, options=self._options)
        self._tried_at = time.monotonic()
        self._ask(address, wait=False)

    def _ask(self, address: str, *, wait: bool) -> None:
        """The cheapest question there is. `wait`: until somebody listens there, instead of being told at once."""
        stub: Any = consensus_pb2_grpc.ConsensusStub(self._channels[address])
        call = stub.TellEpoch.future(consensus_pb2.TellEpochRequest(), timeout=CONNECT_SECONDS, wait_for_ready=wait)
        call.add_done_callback(lambda call: self._told.put((address, call)))

    def _seconds_left(self) -> float:
        limits = (0.0, NEXT_SECONDS) if self._untried else (REFUSED_SECONDS, CONNECT_SECONDS)
        waiting = len(self._settled) < len(self._channels)
        return self._tried_at + limits[waiting] - time.monotonic()
