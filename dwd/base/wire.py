"""Errors as bytes: what rides in gRPC's trailing metadata under METADATA_KEY, and nothing else.

JSON of {kind, code, message, hint, fields}, cut to METADATA_BYTES_MAX so that it always fits HTTP/2 headers.
"""

from __future__ import annotations

import json

from dwd.base.errors import KINDS, DwError

METADATA_KEY = "dwd-error-bin"
METADATA_BYTES_MAX = 4_096
_TEXT_MAX = 1_000


def encode(error: DwError) -> bytes:
    """The bytes for `error`; an error kind that must not cross the wire goes as a plain DwError."""
    kind = type(error).__name__
    document = {
        "kind": kind if kind in KINDS else "DwError",
        "code": error.code,
        "message": error.message[:_TEXT_MAX],
        "hint": error.hint[:_TEXT_MAX],
        "fields": error.fields,
    }
    encoded = json.dumps(document, separators=(",", ":")).encode()
    if len(encoded) <= METADATA_BYTES_MAX:
        return encoded
    return json.dumps({**document, "fields": {}}, separators=(",", ":")).encode()[:METADATA_BYTES_MAX]


def decode(encoded: bytes) -> DwError:
    """The error behind the bytes; bytes that are no error become one that says so."""
    try:
        document = json.loads(encoded)
        kind = KINDS.get(document["kind"], DwError)
        return kind(document["code"], document["message"], hint=document["hint"], **document["fields"])
    except (ValueError, KeyError, TypeError):
        return DwError("rpc.unreadable_error", "the node answered with an error that cannot be read")
