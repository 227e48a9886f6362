"""What an S3 server may be told, with the defaults of a node."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

from dwd.base.units import KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayOptions:
    """Times are seconds, sizes bytes."""

    host: str = "127.0.0.1"
    port: int = 7480
    """0 takes a free one."""
    region: str = "us-east-1"
    domains: tuple[str, ...] = ()
    """Lower-case domains under which bucket names are host names; none means path-style only."""
    tls: ssl.SSLContext | None = None
    requests_max: int = 512
    """Requests in progress; the next one is told to slow down before anything of it is buffered."""
    operation_seconds: float = 30.0
    """For the metadata part of an operation, and for any single step of a transfer."""
    transfer_bytes_per_second_min: int = 128 * KIB
    """A body, and each block of it, gets `operation_seconds` and as long as it takes at this rate."""
    blocks_filling_max: int = 32
    """Block-sized buffers being filled from clients; a request waits for one before it reads on."""
    step_seconds: float = 15.0
    """For each further 256 KiB while such a buffer is held: who sends slower than that keeps others waiting."""
    idle_seconds: float = 60.0
    """Silence of a client in the middle of a body, in or out, after which the request is given up."""
    keep_alive_seconds: float = 75.0
    linger_seconds: float = 3.0
    """How long bytes of a refused body are read and dropped, so that the client sees the answer."""
    header_line_bytes_max: int = 16 * KIB
    header_lines_max: int = 256
    customer_keys_over_http: bool = False
    """Whether clients may send keys of theirs (SSE-C) where anybody on the way can read them."""
    backlog: int = 1_024
    access_log: bool = False
    """A line for every request, at about 0.1 ms of CPU each; answers of 500 and above are always logged."""

    def transfer_seconds(self, size: int) -> float:
        """What a client may take for so many bytes."""
        return self.operation_seconds + size / self.transfer_bytes_per_second_min
