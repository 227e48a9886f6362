"""Errors as bytes: what rides in gRPC's trailing metadata under METADATA_KEY, and nothing else.

JSON of {kind, code, message, hint, fields}, cut to METADATA_BYTES_MAX so that it always fits HTTP/2 headers.
"""

from __future__ import annotations

import json

from dwd.base.errors import KINDS, DwError

METADATA_KEY = "dwd-error-bin"
METADATA_BYTES_MAX = 4_096
_CODE_MAX = 100
_TEXT_MAX = 1_000
_TEXT_MIN = 200
"""Of 12 bytes each at worst, as JSON escapes them: with the code and the frame around it this fits."""


def encode(error: DwError) -> bytes:
    """The bytes for `error`; an error kind that must not cross the wire goes as a plain DwError.

    What does not fit goes without its fields, then without its hint and with a shortened message: the kind and the
    code, which callers act on, always arrive.
    """
    kind = type(error).__name__
    document: dict[str, object] = {
        "kind": kind if kind in KINDS else "DwError",
        "code": error.code[:_CODE_MAX],
        "message": error.message[:_TEXT_MAX],
        "hint": error.hint[:_TEXT_MAX],
        "fields": error.fields,
    }
    shorter = document | {"fields": {}}
    shortest = shorter | {"message": error.message[:_TEXT_MIN], "hint": ""}
    encoded = _json(document)
    for smaller in (shorter, shortest):
        if len(encoded) > METADATA_BYTES_MAX:
            encoded = _json(smaller)
    return encoded


def decode(encoded: bytes) -> DwError:
    """The error behind the bytes; bytes that are no error become one that says so."""
    try:
        document = json.loads(encoded)
        kind = KINDS.get(document["kind"], DwError)
        return kind(document["code"], document["message"], hint=document["hint"], **document["fields"])
    except (ValueError, KeyError, TypeError):
        return DwError("rpc.unreadable_error", "the node answered with an error that cannot be read")


def _json(document: dict[str, object]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()
