"""The calls a server is serving right now, by peer: so that they can be counted, bounded and ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from dwd.base.errors import Busy, DwError
from dwd.rpc.admission import Limits
from dwd.security.peers import Peer


@dataclass(slots=True, eq=False)
class LiveCall:
    """A call in progress. `ended_by` is set when the server itself ends it, before its task is cancelled."""

    peer: Peer
    task: asyncio.Task[object]
    ended_by: DwError | None = None


class LiveCalls:
    """Owned by one event loop. Unary calls only count; streams can be ended, they live long."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._total = 0
        self._by_peer: dict[str, int] = {}
        self._streams: set[LiveCall] = set()

    @property
    def total(self) -> int:
        return self._total

    @property
    def streams(self) -> int:
        return len(self._streams)

    def enter(self, peer: Peer) -> None:
        """Count a call. Raises Busy at a limit, and then nothing is counted."""
        if self._total >= self._limits.calls_max:
            raise Busy("rpc.too_many_calls", f"this node serves {self._limits.calls_max} calls already")
        own = self._by_peer.get(peer.name, 0)
        if own >= self._limits.calls_per_peer_max:
            raise Busy("rpc.too_many_calls", f"{peer} has {self._limits.calls_per_peer_max} calls open here already")
        self._total += 1
        self._by_peer[peer.name] = own + 1

    def leave(self, peer: Peer) -> None:
        self._total -= 1
        left = self._by_peer[peer.name] - 1
        if left:
            self._by_peer[peer.name] = left
        else:
            del self._by_peer[peer.name]

    def add_stream(self, stream: LiveCall) -> None:
        self._streams.add(stream)

    def remove_stream(self, stream: LiveCall) -> None:
        self._streams.discard(stream)

    def end_streams(self, error: DwError, chosen: Callable[[Peer], bool]) -> int:
        """End the streams of all chosen peers with `error`; how many."""
        ending = [s for s in self._streams if s.ended_by is None and chosen(s.peer)]
        for stream in ending:
            stream.ended_by = error
            stream.task.cancel()
        return len(ending)
