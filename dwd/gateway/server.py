"""The S3 listener: HTTP by aiohttp's low-level server, everything else ours.

A request is served in this order: admit (else SlowDown, before a byte of its body is buffered), parse, route, verify
its signature, handle, answer. A client that asked for `100 Continue` gets it when its body is first wanted, thus only
after it was admitted and authenticated.

Invariants: every answer carries x-amz-request-id; a connection is kept only when the bytes of the next request can be
found on it; nothing waits for a client longer than `idle_seconds`.
Hazard: aiohttp would by default unpack bodies sent with Content-Encoding: gzip (auto_decompress), and normalise paths
(so the raw target is used).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from dwd.base.clock import Clock
from dwd.base.errors import Busy, DwError, InvalidArgument, Unavailable
from dwd.base.units import KIB
from dwd.gateway import native_crc64, telemetry
from dwd.gateway.authentication import Authenticator
from dwd.gateway.core.head import parse_head
from dwd.gateway.core.object_headers import check_offered
from dwd.gateway.core.routing import route
from dwd.gateway.errors import error_document, error_headers, s3_error
from dwd.gateway.exchange import XML_TYPE, Exchange, Reply
from dwd.gateway.options import GatewayOptions
from dwd.gateway.s3.table import HANDLERS
from dwd.gateway.sending import send
from dwd.gateway.socket_body import SocketBody
from dwd.gateway.telemetry import AccessRecord
from dwd.objects.authentication import Credentials
from dwd.objects.core.names import check_bucket_name, check_key
from dwd.objects.ports import Objects

HASH_THREADS = 2
READ_BUFFER_BYTES = 256 * KIB
DRAIN_BYTES_MAX = 256 * KIB
"""A refused body up to this size is read and dropped to keep the connection; a larger one costs the connection."""
STOP_SECONDS = 10.0


class S3Server:
    """One listener. `start` and `stop` are called once each, on the same event loop."""

    def __init__(
        self, objects: Objects, credentials: Credentials, clock: Clock, options: GatewayOptions | None = None
    ) -> None:
        native_crc64.install()
        self._objects = objects
        self._clock = clock
        self._options = options or GatewayOptions()
        self._authenticator = Authenticator(
            credentials, clock, region=self._options.region, domains=self._options.domains
        )
        self._filling = asyncio.Semaphore(self._options.blocks_filling_max)
        self._executor = ThreadPoolExecutor(HASH_THREADS, thread_name_prefix="dwd-gateway-hash")
        self._id_prefix = secrets.token_hex(5).upper()
        self._served = 0
        self._active = 0
        self._stopping = False
        self._http: _HttpServer | None = None
        self._listener: asyncio.Server | None = None

    @property
    def active(self) -> int:
        """Requests in progress."""
        return self._active

    async def start(self) -> int:
        """Listen; the bound port. Raises Unavailable gateway.cannot_listen."""
        options = self._options
        loop = asyncio.get_running_loop()
        self._http = _HttpServer(self._serve, self._malformed, options, loop)
        try:
            self._listener = await loop.create_server(
                self._http.protocol, options.host, options.port, ssl=options.tls, backlog=options.backlog
            )
        except OSError as error:
            raise Unavailable(
                "gateway.cannot_listen",
                f"cannot listen on {options.host}:{options.port}: {error.strerror}",
                hint="another process may use the port; set the S3 port in the configuration",
            ) from error
        return int(self._listener.sockets[0].getsockname()[1])

    async def stop(self, grace_seconds: float = STOP_SECONDS) -> None:
        """Take no more connections and requests, let those in progress end within `grace_seconds`, then cut them."""
        self._stopping = True
        if self._listener is not None:
            self._listener.close()
        if self._http is not None:
            self._http.pre_shutdown()
            await self._http.shutdown(grace_seconds)
        self._executor.shutdown(wait=False, cancel_futures=True)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        started = self._clock.monotonic()
        record = AccessRecord(request_id=self._next_id(), method=request.method)
        headers = _joined_headers(request)
        body = SocketBody(
            request,
            expects_continue=headers.get("expect", "").lower() == "100-continue",
            idle_seconds=self._options.idle_seconds,
        )
        self._active += 1
        try:
            reply = await self._reply(request, headers, body, record)
            close = self._stopping or not _can_be_kept(request, headers, body)
            record.status = reply.status
            return await send(request, reply, record, close=close, idle_seconds=self._options.idle_seconds)
        finally:
            self._active -= 1
            record.bytes_in = body.received
            telemetry.finished(record, self._clock.monotonic() - started, log=self._options.access_log)

    async def _reply(
        self, request: web.BaseRequest, headers: dict[str, str], body: SocketBody, record: AccessRecord
    ) -> Reply:
        try:
            self._admit()
            return await self._handle(request, headers, body, record)
        except DwError as error:
            return self._refuse(error, request.raw_path, record)
        except Exception as error:  # noqa: BLE001  # whatever it is, this client gets an answer and others go on
            telemetry.failed(record.request_id, error)
            return self._refuse(DwError("gateway.failed", "internal error"), request.raw_path, record)

    def _admit(self) -> None:
        if self._stopping:
            raise Unavailable("s3.stopping", "This node is shutting down. Please try another one.")
        if self._active > self._options.requests_max:
            telemetry.shed()
            raise Busy("s3.slow_down", "Please reduce your request rate.")

    async def _handle(
        self, request: web.BaseRequest, headers: dict[str, str], body: SocketBody, record: AccessRecord
    ) -> Reply:
        head = parse_head(request.method, request.raw_path, headers, self._options.domains)
        record.bucket, record.key = head.bucket[:64], head.key
        operation = route(head)
        record.operation = operation.value
        identity = await self._authenticator.authenticate(head)
        record.caller = identity.caller.user
        if head.bucket:
            check_bucket_name(head.bucket)
        if head.key:
            check_key(head.key)
        check_offered(headers)
        exchange = Exchange(
            head=head,
            operation=operation,
            identity=identity,
            source=body,
            objects=self._objects,
            clock=self._clock,
            options=self._options,
            filling=self._filling,
            executor=self._executor,
        )
        return await HANDLERS[operation](exchange)

    def _refuse(self, error: DwError, target: str, record: AccessRecord) -> Reply:
        answer = s3_error(error)
        record.error = error.code
        resource = target.partition("?")[0]
        document = error_document(error, answer, resource=resource, request_id=record.request_id)
        return Reply(
            status=answer.status, headers={"Content-Type": XML_TYPE, **error_headers(error, answer)}, body=document
        )

    def _malformed(self) -> web.StreamResponse:
        """Of bytes that are not HTTP, or whose head is over the limits."""
        error = InvalidArgument("s3.bad_http", "The request is not valid HTTP, or its head is too large.")
        record = AccessRecord(request_id=self._next_id(), method="")
        reply = self._refuse(error, "", record)
        response = web.Response(
            status=reply.status,
            body=bytes(reply.body),
            headers={**reply.headers, "x-amz-request-id": record.request_id},
        )
        response.force_close()
        record.status = reply.status
        telemetry.finished(record, 0.0, log=self._options.access_log)
        return response

    def _next_id(self) -> str:
        self._served += 1
        return f"{self._id_prefix}{self._served:010X}"


class _HttpServer(web.Server):
    """aiohttp's connection keeper with our protocol."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Any],
        malformed: Callable[[], web.StreamResponse],
        options: GatewayOptions,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(handler, loop=loop)
        self._malformed = malformed
        self._options = options

    def protocol(self) -> RequestHandler:
        options = self._options
        return _Protocol(
            self,
            self._malformed,
            loop=asyncio.get_running_loop(),
            access_log=None,
            auto_decompress=False,
            keepalive_timeout=options.keep_alive_seconds,
            lingering_time=options.linger_seconds,
            max_line_size=options.header_line_bytes_max,
            max_field_size=options.header_line_bytes_max,
            max_headers=options.header_lines_max,
            read_bufsize=READ_BUFFER_BYTES,
        )


class _Protocol(RequestHandler):
    """Answers what is not HTTP in S3's form. Our handler answers everything else itself."""

    __slots__ = ("_malformed",)

    def __init__(self, manager: _HttpServer, malformed: Callable[[], web.StreamResponse], **settings: Any) -> None:
        super().__init__(manager, **settings)
        self._malformed = malformed

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        del status, exc, message
        if request.writer is not None and request.writer.output_size > 0:
            # Another answer now would be taken for the rest of the one that was begun.
            raise ConnectionResetError("the answer was begun already")
        return self._malformed()


@lru_cache(maxsize=512)
def _header_name(raw: bytes) -> str:
    return raw.decode("latin-1").lower()


def _joined_headers(request: web.BaseRequest) -> dict[str, str]:
    headers: dict[str, str] = {}
    for raw_name, raw_value in request.raw_headers:
        name = _header_name(raw_name)
        value = raw_value.decode("utf-8", "surrogateescape")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return headers


def _can_be_kept(request: web.BaseRequest, headers: dict[str, str], body: SocketBody) -> bool:
    """Whether the next request can be found on the connection once this one is answered."""
    payload = request.content
    if body.withheld or body.silent:
        return False
    if payload.is_eof():
        return True
    length = headers.get("content-length", "")
    return length.isdigit() and int(length) - payload.total_bytes <= DRAIN_BYTES_MAX
