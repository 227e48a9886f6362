"""The head of a request as S3 sees it: method, bucket, key, query and headers.

Invariants: `raw_path` and `raw_query` are exactly the bytes the client sent (signatures depend on it); `key` is the
percent-decoded path, never normalised ("a//b" and "a/../b" are keys of their own).
Source: AWS "Virtual hosting of buckets", RFC 9112 section 3.2 (request target forms).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import quote, unquote

from dwd.base.errors import InvalidArgument

QUERY_PAIRS_MAX = 128

_UNRESERVED = "-_.~"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHead:
    """A parsed head. `bucket` and `key` are empty where the target names none; nothing is validated yet."""

    method: str
    raw_path: str
    raw_query: str
    bucket: str
    key: str
    pairs: tuple[tuple[str, str], ...]
    """Decoded query parameters in the order sent, repeated ones too."""
    query: Mapping[str, str]
    """The same by name; the first of a repeated name counts."""
    headers: Mapping[str, str]
    """Lower-case names; values of a repeated header joined by commas, as signatures want them."""


def parse_head(method: str, target: str, headers: Mapping[str, str], domains: tuple[str, ...] = ()) -> RequestHead:
    """Split the raw request target. Raises InvalidArgument s3.invalid_uri."""
    raw_path, raw_query = split_target(target)
    path = decode(raw_path) if "%" in raw_path or not raw_path.isascii() else raw_path
    pairs = parse_query(raw_query) if raw_query else ()
    bucket = bucket_of_host(headers.get("host", ""), domains) if domains else ""
    if bucket:
        key = path[1:]
    else:
        bucket, _, key = path[1:].partition("/")
    query: dict[str, str] = {}
    for name, value in pairs:
        query.setdefault(name, value)
    return RequestHead(
        method=method,
        raw_path=raw_path,
        raw_query=raw_query,
        bucket=bucket,
        key=key,
        pairs=pairs,
        query=query,
        headers=headers,
    )


def split_target(target: str) -> tuple[str, str]:
    """(raw path, raw query) of an origin-form or absolute-form request target."""
    if not target.startswith("/"):
        scheme, found, rest = target.partition("://")
        if not found or scheme.lower() not in {"http", "https"}:
            raise InvalidArgument("s3.invalid_uri", "Couldn't parse the specified URI.")
        slash, mark = rest.find("/"), rest.find("?")
        if slash < 0 or 0 <= mark < slash:
            slash = mark
        target = rest[slash:] if slash >= 0 else "/"
        if not target.startswith("/"):
            target = "/" + target
    path, _, query = target.partition("?")
    return path, query.partition("#")[0]


def parse_query(raw: str) -> tuple[tuple[str, str], ...]:
    """Decoded (name, value) pairs; a "+" means a space, as in HTML forms."""
    pairs: list[tuple[str, str]] = []
    for item in raw.split("&"):
        if not item:
            continue
        name, _, value = item.partition("=")
        pairs.append((_decode_query(name), _decode_query(value)))
    if len(pairs) > QUERY_PAIRS_MAX:
        raise InvalidArgument("s3.invalid_uri", f"More than {QUERY_PAIRS_MAX} query parameters.")
    return tuple(pairs)


def bucket_of_host(host: str, domains: Iterable[str]) -> str:
    """The bucket a Host header names under one of `domains`; empty for path-style requests."""
    name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
    name = name.lower()
    for domain in domains:
        if name.endswith("." + domain):
            return name[: -len(domain) - 1]
    return ""


def decode(text: str) -> str:
    """Percent-decode as UTF-8. Raises InvalidArgument s3.invalid_uri for anything that is not."""
    try:
        decoded = unquote(text, errors="strict")
        decoded.encode()
    except UnicodeError:
        raise InvalidArgument("s3.invalid_uri", "Couldn't parse the specified URI: it is not UTF-8.") from None
    return decoded


def encode(text: str, *, keep: str = "") -> str:
    """Percent-encode as SigV4 wants it: everything but unreserved characters and `keep`."""
    return quote(text, safe=_UNRESERVED + keep, errors="surrogateescape")


def _decode_query(text: str) -> str:
    if "+" in text:
        text = text.replace("+", " ")
    return decode(text) if "%" in text or not text.isascii() else text
