"""Key ranges as bytes: the next key after all that share a prefix, and how listings roll up by a delimiter."""

from __future__ import annotations

LAST = b"\xff" * 8
"""Greater than every key: no UTF-8 has such a byte."""


def successor(prefix: bytes) -> bytes:
    """The least key greater than every key that starts with `prefix`."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes((stripped[-1] + 1,)) if stripped else LAST


def common_prefix(key: bytes, prefix: bytes, delimiter: bytes) -> bytes | None:
    """`key` up to and with the first delimiter after `prefix`; None if there is none."""
    if not delimiter:
        return None
    at = key.find(delimiter, len(prefix))
    return None if at < 0 else key[: at + len(delimiter)]


def first_after(after: bytes, prefix: bytes, delimiter: bytes) -> bytes:
    """Where a page after `after` begins (inclusive): past the whole common prefix that `after` lies in, which was
    answered before or is not greater than `after`.
    """
    if after < prefix:
        return prefix
    rolled = common_prefix(after, prefix, delimiter) if after.startswith(prefix) else None
    return successor(rolled) if rolled is not None else after + b"\0"
