"""How the body of a request is framed, signed and to be checked: decided from the head alone.

Source: AWS "Signature calculations: transferring payload in multiple chunks" and "... with trailing checksums".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from dwd.base.errors import InvalidArgument
from dwd.base.units import GIB
from dwd.gateway.core.checksums import Declared, read_declared
from dwd.gateway.core.sigv4 import UNSIGNED_PAYLOAD

PUT_BYTES_MAX = 5 * GIB
"""What one PUT or one part may carry; larger objects come as multipart uploads."""


class Framing(Enum):
    """What stands between the socket and the payload."""

    PLAIN = "plain"
    CHUNKED = "chunked"
    """aws-chunked without signatures."""
    CHUNKED_SIGNED = "chunked signed"


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadPlan:
    """Everything that must hold of a body. `length` counts payload bytes, without framing."""

    framing: Framing
    length: int
    sha256: bytes | None
    declared: Declared
    trailers: bool


_STREAMING = {
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD": (Framing.CHUNKED_SIGNED, False),
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER": (Framing.CHUNKED_SIGNED, True),
    "STREAMING-UNSIGNED-PAYLOAD-TRAILER": (Framing.CHUNKED, True),
}


def plan_payload(headers: Mapping[str, str], payload: str, *, own_checksum: bool = True) -> PayloadPlan:
    """The plan for a body whose x-amz-content-sha256 is `payload`.

    Raises InvalidArgument: s3.missing_content_length, s3.entity_too_large, s3.invalid_digest, s3.invalid_request.
    """
    framing, trailers, sha256 = Framing.PLAIN, False, None
    if payload in _STREAMING:
        framing, trailers = _STREAMING[payload]
        length = _size(headers, "x-amz-decoded-content-length")
    else:
        length = _size(headers, "content-length")
        if payload != UNSIGNED_PAYLOAD:
            sha256 = _sha256(payload)
    if length > PUT_BYTES_MAX:
        raise InvalidArgument(
            "s3.entity_too_large",
            "Your proposed upload exceeds the maximum allowed size",
            proposed_size=length,
            max_size_allowed=PUT_BYTES_MAX,
        )
    declared = read_declared(headers, own_checksum=own_checksum)
    if declared.trailer and not trailers:
        raise InvalidArgument("s3.invalid_request", "x-amz-trailer was given, but the payload has no trailers.")
    return PayloadPlan(framing=framing, length=length, sha256=sha256, declared=declared, trailers=trailers)


def _size(headers: Mapping[str, str], name: str) -> int:
    text = headers.get(name)
    if text is None:
        if name == "content-length" and "transfer-encoding" not in headers:
            return 0
        raise InvalidArgument("s3.missing_content_length", f"You must provide the {name} HTTP header.")
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise InvalidArgument("s3.invalid_argument", f"{name} is not a number of bytes.")
    return int(text)


def _sha256(text: str) -> bytes:
    try:
        digest = bytes.fromhex(text)
    except ValueError:
        digest = b""
    if len(digest) != 32 or not text.isascii():
        raise InvalidArgument(
            "s3.invalid_argument",
            "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, "
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER or a valid sha256 value.",
        )
    return digest
