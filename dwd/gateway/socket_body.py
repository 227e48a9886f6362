"""The body of an HTTP request as a BodySource: waits no longer than a client may be silent, and sends the
`100 Continue` a client waits for only when somebody really wants the bytes.

Hazard: botocore misreads every later answer on a connection on which it was given a final status without the 100 it
waited for, even where the body is empty. So a wanted body always gets its 100; an unwanted one costs the connection.
"""

from __future__ import annotations

import asyncio

from aiohttp import ClientError, web
from aiohttp.web_protocol import RequestPayloadError

from dwd.base.errors import InvalidArgument

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class SocketBody:
    """One request's body. `unread` tells what is still on its way."""

    def __init__(self, request: web.BaseRequest, *, expects_continue: bool, idle_seconds: float) -> None:
        self._request = request
        self._payload = request.content
        self._expects_continue = expects_continue
        self._idle_seconds = idle_seconds
        self.received = 0
        self.silent = False
        """The client fell silent in the middle of the body: nothing more is to be hoped for."""

    @property
    def withheld(self) -> bool:
        """The client still waits for `100 Continue` and will send nothing before."""
        return self._expects_continue

    async def read(self) -> bytes:
        """See BodySource."""
        payload = self._payload
        if self._expects_continue:
            self._expects_continue = False
            if self._request.transport is not None:
                self._request.transport.write(_CONTINUE)
        try:
            data = payload.read_nowait()
            if not data and not payload.at_eof():
                data = await self._wait()
        except (ClientError, RequestPayloadError, ConnectionError):
            raise InvalidArgument("s3.incomplete_body", "The connection broke before the body was complete.") from None
        self.received += len(data)
        return data

    async def _wait(self) -> bytes:
        if self._request.transport is None:
            raise ConnectionResetError
        try:
            async with asyncio.timeout(self._idle_seconds):
                return await self._payload.readany()
        except TimeoutError:
            self.silent = True
            raise InvalidArgument(
                "s3.request_timeout",
                "Your socket connection to the server was not read from or written to within the timeout period.",
            ) from None
