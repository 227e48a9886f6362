"""The gRPC settings of both sides, in one place because they only make sense together.

* A peer that stops answering (power loss, SIGSTOP, cut cable) is noticed within PING_MS + PING_TIMEOUT_MS, also on
  idle connections; the server must allow pings that often. Seen with grpcio 1.85: keepalive_timeout_ms alone never
  fires, a lost ping then counts only after ping_timeout_ms, a minute by default.
* Messages are bounded by MESSAGE_BYTES_MAX both ways.
* HTTP/2 frame sizes, windows and write buffers stay gRPC's own: larger ones made no difference that could be measured.
* Connections never go through a proxy named in the environment, and never share a port with a second daemon.
"""

from __future__ import annotations

from collections.abc import Sequence

from dwd.base.errors import InvariantViolation
from dwd.base.limits import CHUNK_BYTES, MESSAGE_BYTES_MAX
from dwd.base.units import KIB

PING_MS = 1_000
PING_TIMEOUT_MS = 2_000
PING_INTERVAL_ALLOWED_MS = 500
BACKOFF_FIRST_MS = 100
BACKOFF_MAX_MS = 1_000
CONNECT_MS = 2_000
"""How long one attempt to connect (TCP and TLS) may take; gRPC derives it from its minimal back-off."""
METADATA_BYTES_MAX = 16 * KIB

if not PING_INTERVAL_ALLOWED_MS < PING_MS:
    raise InvariantViolation("the server must allow the pings that clients send")
if not CHUNK_BYTES < MESSAGE_BYTES_MAX:
    raise InvariantViolation("a chunk must fit one message")

Options = Sequence[tuple[str, int | str]]

_BOTH: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_metadata_size", METADATA_BYTES_MAX),
    ("grpc.keepalive_time_ms", PING_MS),
    ("grpc.keepalive_timeout_ms", PING_TIMEOUT_MS),
    ("grpc.http2.ping_timeout_ms", PING_TIMEOUT_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)


def server_options(*, streams_per_connection: int) -> Options:
    return (
        *_BOTH,
        ("grpc.so_reuseport", 0),
        ("grpc.max_concurrent_streams", streams_per_connection),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", PING_INTERVAL_ALLOWED_MS),
        ("grpc.http2.max_ping_strikes", 0),
    )


def channel_options(server_name: str) -> Options:
    """`server_name` is the name the peer's certificate must carry, whatever address it is reached by."""
    return (
        *_BOTH,
        ("grpc.ssl_target_name_override", server_name),
        ("grpc.default_authority", server_name),
        ("grpc.initial_reconnect_backoff_ms", BACKOFF_FIRST_MS),
        ("grpc.min_reconnect_backoff_ms", CONNECT_MS),
        ("grpc.max_reconnect_backoff_ms", BACKOFF_MAX_MS),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 0),
        ("grpc.service_config_disable_resolution", 1),
    )
