"""The node's gRPC server: mutual TLS always, certificates replaced without a restart, every call admitted by identity.

Hazard: gRPC closes no connection when a certificate expires or a member is removed. So every call is checked on its
own, and streams, which live long, are ended: at once by `close_peer`, by a sweep when a certificate runs out, the
peer's or, for what a peer sends to it, this node's own.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from typing import Any

import grpc

from dwd.base.clock import Clock
from dwd.base.errors import DwError, InvalidArgument, PermissionDenied, Unauthenticated, Unavailable
from dwd.base.ids import NodeId
from dwd.observability.metrics import gauge
from dwd.rpc.admission import Admission, Limits
from dwd.rpc.guard import Guard, own_expired
from dwd.rpc.live import LiveCalls
from dwd.rpc.options import server_options
from dwd.security.credentials import Credential
from dwd.security.peers import PeerKind, parse_identity

SWEEP_SECONDS = 5.0
STOP_GRACE_SECONDS = 5.0

_open = gauge("dwd.rpc.server.open_calls", "Calls being served", "{call}")


class RpcServer:
    """One listener. Add services, then `start`; owned by the event loop it is built on."""

    def __init__(
        self, address: str, credential: Credential, admission: Admission, *, clock: Clock, limits: Limits | None = None
    ) -> None:
        """`address` is `host:port`; port 0 lets the system choose."""
        bounds = limits or Limits()
        self._address = address
        self._credential = credential
        self._clock = clock
        self._live = LiveCalls(bounds)
        self._pending: grpc.ServerCertificateConfiguration | None = None
        self._sweep: asyncio.TimerHandle | None = None
        self._unwatch: Callable[[], None] | None = None
        self._expires_unix_ms = _expiry(credential)
        guard = Guard(
            cluster_id=credential.cluster_id,
            admission=admission,
            live=self._live,
            clock=clock,
            own_expires_unix_ms=lambda: self._expires_unix_ms,
        )
        self._server = grpc.aio.server(
            interceptors=(guard,), options=server_options(streams_per_connection=bounds.streams_per_connection)
        )

    def add(self, register: Callable[[grpc.aio.Server], None]) -> None:
        """Before `start`: `add(lambda server: x_pb2_grpc.add_XServicer_to_server(servicer, server))`."""
        register(self._server)

    def add_generic(self, service: str, methods: dict[str, grpc.RpcMethodHandler[Any, Any]]) -> None:
        """Before `start`: methods with serializers of their own, such as none at all for bulk bytes."""
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))

    async def start(self) -> int:
        """Listen and serve; the port bound. Raises InvalidArgument (cannot listen there), Unavailable (port taken)."""
        try:
            port = self._server.add_secure_port(self._address, self._credentials())
        except RuntimeError as error:
            raise _why_not(self._address) from error
        await self._server.start()
        self._unwatch = _open.watch(lambda: self._live.total)
        self._sweep_later()
        return port

    async def stop(self, grace_seconds: float = STOP_GRACE_SECONDS) -> None:
        """Refuse new calls, end streams, give calls in progress `grace_seconds`. Safe to call twice."""
        if self._sweep is not None:
            self._sweep.cancel()
        if self._unwatch is not None:
            self._unwatch()
        self._live.end_streams(Unavailable("rpc.stopping", "the node is stopping"), lambda _: True)
        await self._server.stop(grace_seconds)

    def renew(self, credential: Credential) -> None:
        """Show a new certificate to every connection from now on; present ones go on."""
        self._credential = credential
        self._expires_unix_ms = _expiry(credential)
        self._pending = _configuration(credential)

    def close_peer(self, node_id: NodeId) -> int:
        """End all streams of a node that is no longer a member; how many. Its next calls are up to admission."""
        error = PermissionDenied("rpc.removed", "this node is no longer a member of the cluster")
        return self._live.end_streams(error, lambda peer: peer.kind is PeerKind.NODE and peer.node_id == node_id)

    def close_all(self, error: DwError) -> int:
        """End all streams, for example because this node must stop serving; how many."""
        return self._live.end_streams(error, lambda _: True)

    @property
    def streams(self) -> int:
        """Streams being served."""
        return self._live.streams

    def _credentials(self) -> grpc.ServerCredentials:
        return grpc.dynamic_ssl_server_credentials(
            _configuration(self._credential),
            self._take_pending,  # type: ignore[arg-type]  # None is allowed, the stubs forget it
            require_client_authentication=True,
        )

    def _take_pending(self) -> grpc.ServerCertificateConfiguration | None:
        """Called by gRPC before each handshake, on a thread of its own; None keeps the present certificate."""
        pending, self._pending = self._pending, None
        return pending

    def _sweep_later(self) -> None:
        self._sweep = asyncio.get_running_loop().call_later(SWEEP_SECONDS, self._sweep_now)

    def _sweep_now(self) -> None:
        self.end_expired()
        self._sweep_later()

    def end_expired(self) -> int:
        """End streams whose peer's certificate, or this node's, has run out; how many. Runs by itself every
        SWEEP_SECONDS.
        """
        now = self._clock.unix_ms()
        if self._expires_unix_ms <= now:
            return self.close_all(own_expired())
        error = Unauthenticated("security.certificate_expired", "the caller's certificate has expired", hint="renew it")
        return self._live.end_streams(error, lambda peer: peer.expires_unix_ms <= now)


def _expiry(credential: Credential) -> int:
    return parse_identity(credential.certificate, credential.cluster_id).expires_unix_ms


def _configuration(credential: Credential) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(credential.key, credential.certificate)], root_certificates=credential.authority
    )


def _why_not(address: str) -> DwError:
    """GRPC only says that it could not bind: ask the system."""
    host, _, port = address.rpartition(":")
    try:
        family, kind, protocol, _, target = socket.getaddrinfo(
            host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
    except (OSError, ValueError) as error:
        number = error.errno if isinstance(error, OSError) else None
        reason = os.strerror(number) if number is not None and number > 0 else str(error)
        if number == errno.EADDRINUSE:
            return Unavailable(
                "rpc.port_in_use",
                f"cannot listen on {address}: {reason}",
                hint="another dwd runs here, or another program has the port (see `ss -ltnp`)",
            )
        return InvalidArgument("rpc.cannot_listen", f"cannot listen on {address}: {reason}")
    return InvalidArgument("rpc.cannot_listen", f"cannot listen on {address}")
