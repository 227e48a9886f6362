"""What stands before every handler: who calls, whether they may, how many there are, and how errors leave.

Invariants: no handler runs for a peer that admission has not passed; no traceback and no foreign exception's text
reaches the wire (it is logged under a request id that does); a stream the server ends says why.
"""

from __future__ import annotations

import asyncio
import inspect
import secrets
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import grpc
import structlog

from dwd.base.clock import Clock
from dwd.base.errors import DwError, InvariantViolation, Unauthenticated
from dwd.base.ids import ClusterId
from dwd.observability.metrics import counter, histogram
from dwd.rpc.admission import Admission
from dwd.rpc.errors import Unexpected, abort, status_of
from dwd.rpc.live import LiveCall, LiveCalls
from dwd.security.peers import Peer, parse_identity

CERTIFICATES_CACHED_MAX = 1_000
METHODS_CACHED_MAX = 1_000

if TYPE_CHECKING:  # generic in the stubs only
    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]
Behaviour = Callable[[Any, "Context"], Any]

_caller: ContextVar[Peer] = ContextVar("dwd_rpc_caller")
_log = structlog.get_logger("dwd.rpc")
_calls = counter("dwd.rpc.server.calls", "Calls answered, by method and gRPC status", "{call}")
_seconds = histogram("dwd.rpc.server.seconds", "Time to answer a call that is not a stream", "s")


class Guard(grpc.aio.ServerInterceptor):
    """Wraps each method's handler once; per call it costs a look-up, a check and two additions."""

    def __init__(
        self,
        *,
        cluster_id: ClusterId,
        admission: Admission,
        live: LiveCalls,
        clock: Clock,
        own_expires_unix_ms: Callable[[], int],
    ) -> None:
        self._own_expires_unix_ms = own_expires_unix_ms
        self._admission = admission
        self._live = live
        self._clock = clock
        self._peers = PeerCache(cluster_id)
        self._handlers: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        method = handler_call_details.method
        known = self._handlers.get(method)
        if known is not None:
            return known
        found = await continuation(handler_call_details)
        if found is None:
            return None
        if len(self._handlers) >= METHODS_CACHED_MAX:
            raise InvariantViolation("more methods than a server can have")
        return self._handlers.setdefault(method, self._wrap(method, found))

    def _wrap(self, method: str, handler: Handler) -> Handler:
        codec = {
            "request_deserializer": handler.request_deserializer,
            "response_serializer": handler.response_serializer,
        }
        match handler.request_streaming, handler.response_streaming:
            case False, False:
                return grpc.unary_unary_rpc_method_handler(self._unary(method, _present(handler.unary_unary)), **codec)
            case True, False:
                return grpc.stream_unary_rpc_method_handler(
                    self._stream(method, _present(handler.stream_unary)), **codec
                )
            case False, True:
                behaviour = _writing(_present(handler.unary_stream))
                return grpc.unary_stream_rpc_method_handler(self._stream(method, behaviour), **codec)
            case _:
                behaviour = _writing(_present(handler.stream_stream))
                return grpc.stream_stream_rpc_method_handler(self._stream(method, behaviour), **codec)

    def _unary(self, method: str, behaviour: Behaviour) -> Behaviour:
        async def answer(request: Any, context: Context) -> Any:
            started = self._clock.monotonic()
            status = "OK"
            try:
                peer = self._admit(method, context)
                try:
                    return await behaviour(request, context)
                finally:
                    self._live.leave(peer)
            except (grpc.aio.BaseError, asyncio.CancelledError):
                status = "BROKEN_OFF"
                raise
            except Exception as error:  # noqa: BLE001 - the edge: whatever a handler raises must leave as a status
                answerable = _answerable(method, error)
                status = status_of(answerable).name
                await abort(context, answerable)
            finally:
                _calls.add(1, method=method, status=status)
                _seconds.record(self._clock.monotonic() - started, method=method)

        return answer

    def _stream(self, method: str, behaviour: Behaviour) -> Behaviour:
        async def answer(request: Any, context: Context) -> Any:
            status = "OK"
            stream: LiveCall | None = None
            try:
                peer = self._admit(method, context)
                try:
                    stream = LiveCall(peer, _own_task())
                    self._live.add_stream(stream)
                    return await behaviour(request, context)
                finally:
                    self._live.leave(peer)
                    if stream is not None:
                        self._live.remove_stream(stream)
            except asyncio.CancelledError:
                if stream is None or stream.ended_by is None:
                    status = "BROKEN_OFF"
                    raise
                stream.task.uncancel()
                status = status_of(stream.ended_by).name
                await abort(context, stream.ended_by)
            except grpc.aio.BaseError:
                status = "BROKEN_OFF"
                raise
            except Exception as error:  # noqa: BLE001 - the edge: whatever a handler raises must leave as a status
                answerable = _answerable(method, error)
                status = status_of(answerable).name
                await abort(context, answerable)
            finally:
                _calls.add(1, method=method, status=status)

        return answer

    def _admit(self, method: str, context: Context) -> Peer:
        """Raises DwError; when it returns, the call is counted and must be left."""
        peer = self._peers.of(context)
        now = self._clock.unix_ms()
        if self._own_expires_unix_ms() <= now:
            raise own_expired()
        if peer.expires_unix_ms <= now:
            raise Unauthenticated(
                "security.certificate_expired", f"the certificate of {peer} has expired", hint="renew it"
            )
        self._admission.check(peer, method)
        self._live.enter(peer)
        _caller.set(peer)
        return peer


def own_expired() -> Unauthenticated:
    """A caller looks at this node's certificate only while it connects: afterwards the node itself has to say it."""
    return Unauthenticated(
        "security.own_certificate_expired", "the certificate of the node that was called has expired", hint="renew it"
    )


def peer_of(context: Context) -> Peer:  # noqa: ARG001 - says where the answer holds: inside that call's handler
    """Who calls, admitted already. Only inside a handler and the tasks it starts."""
    try:
        return _caller.get()
    except LookupError as error:
        raise InvariantViolation("asked for the caller outside of a call") from error


class PeerCache:
    """Parses each certificate once. TLS has verified it; this only reads whom it names."""

    def __init__(self, cluster_id: ClusterId) -> None:
        self._cluster_id = cluster_id
        self._known: dict[bytes, Peer] = {}

    def of(self, context: Context) -> Peer:
        """Raises Unauthenticated, VersionRefused."""
        certificate = _certificate(context)
        peer = self._known.get(certificate)
        if peer is None:
            peer = parse_identity(certificate, self._cluster_id)
            if len(self._known) >= CERTIFICATES_CACHED_MAX:
                self._known.clear()
            self._known[certificate] = peer
        return peer


def _certificate(context: Context) -> bytes:
    found = context.auth_context().get("x509_pem_cert")
    if not found:
        raise Unauthenticated("security.no_certificate", "the caller shows no certificate")
    return bytes(next(iter(found)))


def _answerable(method: str, error: Exception) -> DwError:
    """The error as it may leave: a DwError as it is, a bug under a request id that the log knows too."""
    if isinstance(error, InvariantViolation) or not isinstance(error, DwError):
        request_id = secrets.token_hex(8)
        _log.error("rpc.handler_failed", method=method, request_id=request_id, exc_info=error)
        return Unexpected(
            "rpc.internal",
            f"the node failed unexpectedly, request id {request_id}",
            hint="its log tells more under that id",
            request_id=request_id,
        )
    return error


def _writing(behaviour: Behaviour) -> Behaviour:
    """A handler that yields its answers, as one that writes them: both kinds then run as a plain coroutine."""
    if not inspect.isasyncgenfunction(behaviour):
        return behaviour

    async def write_all(request: Any, context: Context) -> None:
        async with aclosing(behaviour(request, context)) as answers:
            async for response in answers:
                await context.write(response)

    return write_all


def _present(behaviour: Callable[..., Any] | None) -> Behaviour:
    if behaviour is None:
        raise InvariantViolation("a handler without behaviour")
    return behaviour


def _own_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    if task is None:
        raise InvariantViolation("a handler runs outside of a task")
    return task
