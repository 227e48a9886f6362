"""A directory whose addresses lead through this process, so that a test can cut or slow the way between two nodes.

Below TLS and gRPC: whatever nodes say to each other passes here as bytes, and a cut looks to both ends like a network
that swallows packets. A connection between two nodes belongs to the one that opened it; both directions of it pass
here and are judged each by itself, so a cut may be one-way. What a cut holds back flows on when it ends, unless an end
gave the connection up meanwhile: as TCP sends again what was not acknowledged.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress

import structlog

from dwd.base.ids import NodeId
from dwd.rpc.channels import Directory
from dwd.runtime.tasks import Tasks

CHUNK_BYTES = 256 * 1024
POLL_SECONDS = 0.02
"""How soon a cut that ended is noticed."""

_log = structlog.get_logger("dwd.rpc")
Link = tuple[NodeId, NodeId]


class Relay:
    """Implements `Directory` over another one. Owned by the event loop it is first asked on.

    `is_cut(source, target)` and `delay_seconds(source, target)` are asked for every piece that passes.
    """

    def __init__(
        self,
        own: NodeId,
        directory: Directory,
        *,
        is_cut: Callable[[NodeId, NodeId], bool],
        delay_seconds: Callable[[NodeId, NodeId], float],
    ) -> None:
        self._own = own
        self._directory = directory
        self._is_cut = is_cut
        self._delay_seconds = delay_seconds
        self._places: dict[NodeId, str] = {}
        self._tasks = Tasks("rpc.relay", _failed)

    def address(self, node_id: NodeId) -> str:
        """Of a listener here that leads to the node. Raises NotFound."""
        _ = self._directory.address(node_id)
        place = self._places.get(node_id)
        if place is None:
            listener = socket.create_server(("127.0.0.1", 0))
            listener.setblocking(False)
            place = self._places[node_id] = f"127.0.0.1:{listener.getsockname()[1]}"
            _ = self._tasks.spawn(self._listen(listener, node_id), name=f"to-{node_id:x}")
        return place

    async def close(self) -> None:
        await self._tasks.close()

    async def _listen(self, listener: socket.socket, target: NodeId) -> None:
        loop = asyncio.get_running_loop()
        with listener:
            while True:
                accepted, _ = await loop.sock_accept(listener)
                _ = self._tasks.spawn(self._pass_on(accepted, target), name=f"with-{target:x}")

    async def _pass_on(self, accepted: socket.socket, target: NodeId) -> None:
        """One connection, until both directions ended or one broke."""
        near_reader, near = await asyncio.open_connection(sock=accepted)
        far: asyncio.StreamWriter | None = None
        try:
            host, _, port = self._directory.address(target).rpartition(":")
            far_reader, far = await asyncio.open_connection(host.strip("[]"), int(port))
            async with asyncio.TaskGroup() as both:
                _ = both.create_task(self._pump(near_reader, far, (self._own, target)))
                _ = both.create_task(self._pump(far_reader, near, (target, self._own)))
        except (OSError, ExceptionGroup) as error:
            _log.debug("a relayed connection ended", peer=target, error=repr(error))
        finally:
            for writer in (near, far):
                if writer is not None:
                    writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: Link) -> None:
        """Raises ConnectionError once the source has ended, so that the other direction ends too."""
        while True:
            piece = await reader.read(CHUNK_BYTES)
            delay = self._delay_seconds(*link)
            if delay > 0:
                await asyncio.sleep(delay)
            while self._is_cut(*link):  # noqa: ASYNC110 - rules come from a file, nothing announces them
                await asyncio.sleep(POLL_SECONDS)
            if not piece:
                raise ConnectionResetError("the connection was closed")
            writer.write(piece)
            with suppress(ConnectionError):
                await writer.drain()


def _failed(name: str, error: BaseException) -> None:
    _log.error("relaying failed", task=name, exc_info=error)
