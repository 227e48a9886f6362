"""AWS Signature Version 4, in the Authorization header and in the query (presigned URLs).

A request is judged in three steps, because the middle one is a look-up: `read_claim` (what does the request say of
itself), then the secret of `claim.access_key`, then `verify`.

Invariants: host and every x-amz-* header sent must be signed; signatures are compared in constant time; nothing here
ever puts a secret, a signing key or an expected signature into an error.
Source: AWS "Authenticating Requests: Using the Authorization Header" and "... Using Query Parameters"; for S3 the
path is encoded once and never normalised.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass

from dwd.base.errors import InvalidArgument, Unauthenticated
from dwd.gateway.core.dates import basic, parse_basic, parse_http_date
from dwd.gateway.core.head import RequestHead, decode, encode

ALGORITHM = "AWS4-HMAC-SHA256"
SKEW_SECONDS_MAX = 15 * 60
EXPIRES_SECONDS_MAX = 7 * 24 * 3600
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"

_SIGNATURE_DIGITS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What a signed request says of itself; not believed before `verify`."""

    access_key: str
    date: str
    """YYYYMMDD of the credential scope."""
    region: str
    stamp: str
    """YYYYMMDDTHHMMSSZ the request was signed at."""
    signed_headers: tuple[str, ...]
    signature: str
    payload: str
    """x-amz-content-sha256: a digest in hex or one of the markers."""
    presigned: bool

    @property
    def scope(self) -> str:
        return f"{self.date}/{self.region}/s3/aws4_request"


class SigningKeys:
    """Derived keys, kept: four HMACs saved per request. Bounded; the oldest goes first."""

    def __init__(self, *, entries_max: int = 1_024) -> None:
        self._entries_max = entries_max
        self._keys: dict[tuple[str, str, str], bytes] = {}

    def key(self, secret: str, date: str, region: str) -> bytes:
        found = self._keys.get((secret, date, region))
        if found is None:
            found = signing_key(secret, date, region)
            if len(self._keys) >= self._entries_max:
                del self._keys[next(iter(self._keys))]
            self._keys[secret, date, region] = found
        return found


def signing_key(secret: str, date: str, region: str) -> bytes:
    """HMAC chain over date, region, service and terminator."""
    key = hmac.digest(b"AWS4" + secret.encode(), date.encode(), "sha256")
    key = hmac.digest(key, region.encode(), "sha256")
    key = hmac.digest(key, b"s3", "sha256")
    return hmac.digest(key, b"aws4_request", "sha256")


def read_claim(head: RequestHead, *, now_seconds: int, region: str) -> Claim:
    """The claim of a request, its form and times checked.

    Raises Unauthenticated (no or stale signature) and InvalidArgument (malformed).
    """
    header = head.headers.get("authorization")
    presigned = "X-Amz-Algorithm" in head.query or "X-Amz-Signature" in head.query
    if header is not None:
        if presigned:
            raise InvalidArgument(
                "s3.invalid_argument", "Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, "
                "Signature query string parameter or the Authorization header should be specified",
            )  # fmt: skip
        claim = _from_header(header, head)
        _check_skew(claim, now_seconds)
    elif presigned:
        claim = _from_query(head)
        _check_expiry(claim, head.query["X-Amz-Expires"], now_seconds)
    else:
        raise Unauthenticated("s3.access_denied", "Access Denied", hint="sign the request with an access key")
    if claim.region != region:
        kind = "s3.query_malformed" if presigned else "s3.authorization_malformed"
        raise InvalidArgument(
            kind,
            f"The authorization header is malformed; the region '{claim.region[:64]}' is wrong; expecting '{region}'",
            region=region,
        )
    _check_signed_headers(claim, head.headers)
    return claim


def verify(head: RequestHead, claim: Claim, key: bytes) -> None:
    """Raises Unauthenticated s3.signature_does_not_match unless `key` made the claim's signature."""
    tail = canonical_tail(head, claim)
    path = encode(decode(head.raw_path), keep="/") if "%" in head.raw_path else encode(head.raw_path, keep="/")
    if _matches(head.method, path, tail, claim, key):
        return
    # Some clients leave characters bare that AWS encodes, and sign what they sent.
    if path != head.raw_path and _matches(head.method, head.raw_path, tail, claim, key):
        return
    raise Unauthenticated(
        "s3.signature_does_not_match",
        "The request signature we calculated does not match the signature you provided. "
        "Check your key and signing method.",
    )


def canonical_tail(head: RequestHead, claim: Claim) -> str:
    """The canonical request after method and path: query, headers, signed headers, payload."""
    headers = head.headers
    lines = []
    for name in claim.signed_headers:
        value = headers.get(name, "").strip()
        if "  " in value:
            value = " ".join(part for part in value.split(" ") if part)
        lines.append(f"{name}:{value}\n")
    query = canonical_query(head.pairs, presigned=claim.presigned) if head.pairs else ""
    return f"{query}\n{''.join(lines)}\n{';'.join(claim.signed_headers)}\n{claim.payload}"


def canonical_query(pairs: tuple[tuple[str, str], ...], *, presigned: bool) -> str:
    """Encoded pairs sorted by encoded name, then value; without the signature itself when presigned."""
    encoded = sorted(
        (encode(name), encode(value)) for name, value in pairs if not (presigned and name == "X-Amz-Signature")
    )
    return "&".join(f"{name}={value}" for name, value in encoded)


def string_to_sign(canonical_request: str, claim: Claim) -> str:
    digest = hashlib.sha256(canonical_request.encode("utf-8", "surrogateescape")).hexdigest()
    return f"{ALGORITHM}\n{claim.stamp}\n{claim.scope}\n{digest}"


def _matches(method: str, path: str, tail: str, claim: Claim, key: bytes) -> bool:
    text = string_to_sign(f"{method}\n{path}\n{tail}", claim)
    expected = hmac.digest(key, text.encode("utf-8", "surrogateescape"), "sha256").hex()
    return hmac.compare_digest(expected, claim.signature)


def _from_header(header: str, head: RequestHead) -> Claim:
    algorithm, _, rest = header.partition(" ")
    if algorithm != ALGORITHM:
        raise _unsupported()
    fields: dict[str, str] = {}
    for part in rest.split(","):
        name, _, value = part.strip().partition("=")
        fields[name] = value
    try:
        credential, signed, signature = fields["Credential"], fields["SignedHeaders"], fields["Signature"]
    except KeyError as missing:
        raise _malformed(f"missing {missing.args[0]}") from None
    payload = head.headers.get("x-amz-content-sha256")
    if payload is None:
        raise InvalidArgument("s3.invalid_request", "Missing required header for this request: x-amz-content-sha256")
    return _claim(
        credential, signed, signature, stamp=_stamp(head.headers), payload=payload, presigned=False
    )  # fmt: skip


def _from_query(head: RequestHead) -> Claim:
    query = head.query
    if query.get("X-Amz-Algorithm") != ALGORITHM:
        raise InvalidArgument("s3.query_malformed", f'X-Amz-Algorithm only supports "{ALGORITHM}"')
    for name in ("X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature"):
        if name not in query:
            raise InvalidArgument("s3.query_malformed", f"Query-string authentication requires {name}.")
    payload = head.headers.get("x-amz-content-sha256") or query.get("X-Amz-Content-Sha256") or UNSIGNED_PAYLOAD
    return _claim(
        query["X-Amz-Credential"],
        query["X-Amz-SignedHeaders"],
        query["X-Amz-Signature"],
        stamp=query["X-Amz-Date"],
        payload=payload,
        presigned=True,
    )


def _claim(credential: str, signed: str, signature: str, *, stamp: str, payload: str, presigned: bool) -> Claim:
    parts = credential.rsplit("/", 4)
    if len(parts) != 5 or not parts[0] or parts[4] != "aws4_request" or parts[3] != "s3":
        raise _malformed(
            'the Credential is mal-formed; expecting "<YOUR-AKID>/YYYYMMDD/REGION/s3/aws4_request"', presigned=presigned
        )
    if parse_basic(stamp) is None or stamp[:8] != parts[1]:
        raise _malformed("the date of the Credential is not the date of the request", presigned=presigned)
    if len(signature) != _SIGNATURE_DIGITS or not signature.isascii():
        raise _malformed("the Signature is not 64 hex digits", presigned=presigned)
    return Claim(
        access_key=parts[0],
        date=parts[1],
        region=parts[2],
        stamp=stamp,
        signed_headers=tuple(signed.split(";")),
        signature=signature,
        payload=payload,
        presigned=presigned,
    )


def _stamp(headers: Mapping[str, str]) -> str:
    stamp = headers.get("x-amz-date")
    if stamp is not None:
        return stamp
    seconds = parse_http_date(headers.get("date", ""))
    if seconds is None:
        raise Unauthenticated("s3.access_denied", "AWS authentication requires a valid Date or x-amz-date header")
    return basic(seconds)


def _check_skew(claim: Claim, now_seconds: int) -> None:
    signed_at = parse_basic(claim.stamp) or 0
    if abs(now_seconds - signed_at) > SKEW_SECONDS_MAX:
        raise Unauthenticated(
            "s3.request_time_too_skewed",
            "The difference between the request time and the current time is too large.",
            request_time=claim.stamp,
            max_allowed_skew_milliseconds=SKEW_SECONDS_MAX * 1_000,
        )


def _check_expiry(claim: Claim, expires: str, now_seconds: int) -> None:
    if not (expires.isascii() and expires.isdigit() and len(expires) <= 9 and int(expires) <= EXPIRES_SECONDS_MAX):
        raise InvalidArgument(
            "s3.query_malformed", f"X-Amz-Expires must be a number of seconds from 0 to {EXPIRES_SECONDS_MAX}"
        )
    signed_at = parse_basic(claim.stamp) or 0
    if signed_at - now_seconds > SKEW_SECONDS_MAX:
        raise Unauthenticated("s3.access_denied", "Request is not yet valid")
    if now_seconds > signed_at + int(expires):
        raise Unauthenticated("s3.access_denied", "Request has expired", expires=int(expires))


def _check_signed_headers(claim: Claim, headers: Mapping[str, str]) -> None:
    signed = claim.signed_headers
    if "host" not in signed:
        raise _malformed("the header 'host' is not signed", presigned=claim.presigned)
    for name in headers:
        if name.startswith("x-amz-") and name not in signed:
            raise Unauthenticated(
                "s3.access_denied",
                "There were headers present in the request which were not signed",
                headers_not_signed=name[:128],
            )


def _malformed(why: str, *, presigned: bool = False) -> InvalidArgument:
    if presigned:
        return InvalidArgument("s3.query_malformed", f"The query authentication is malformed; {why}")
    return InvalidArgument("s3.authorization_malformed", f"The authorization header is malformed; {why}")


def _unsupported() -> InvalidArgument:
    return InvalidArgument(
        "s3.invalid_request",
        f"The authorization mechanism you have provided is not supported. Please use {ALGORITHM}.",
    )
