"""Who may call what: the question the server asks before every call, and the limits it keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dwd.security.peers import Peer


class Admission(Protocol):
    """Decided by the composition of the node, from membership and the method's service."""

    def check(self, peer: Peer, method: str) -> None:
        """`method` is gRPC's full name, "/dwd.raft.v1.Raft/Stream". Raises PermissionDenied. Must not block."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Over these, a call is refused with Busy before anything is done for it."""

    calls_max: int = 2_000
    """Calls of all peers at once, streams included."""
    calls_per_peer_max: int = 1_000
    streams_per_connection: int = 1_000
    """HTTP/2 streams; more wait at the client."""
