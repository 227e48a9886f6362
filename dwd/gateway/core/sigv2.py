"""AWS Signature Version 2 in the query: presigned URLs as boto3, awscli and s3cmd still make them by default for
us-east-1 and other old regions. Nothing else of version 2 is offered.

Invariants: the method, path, x-amz-* headers, Content-Type, Content-MD5 and every parameter that changes the meaning
are signed. There is no signing key here, so chunk signatures cannot be checked and are refused by the Verifier.
Source: AWS "Signing and authenticating REST requests (AWS signature version 2)", query string authentication.
"""

from __future__ import annotations

import base64
import hmac
from dataclasses import dataclass

from dwd.base.errors import Unauthenticated
from dwd.gateway.core.head import RequestHead
from dwd.gateway.core.routing import SUB_RESOURCES
from dwd.gateway.core.sigv4 import UNSIGNED_PAYLOAD

_SIGNED_PARAMETERS = SUB_RESOURCES | frozenset({
    "versionId", "response-content-type", "response-content-language", "response-expires", "response-cache-control",
    "response-content-disposition", "response-content-encoding",
})  # fmt: skip
_EXPIRES_DIGITS_MAX = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryClaim:
    """What a presigned URL of version 2 says of itself; not believed before `verify_query`."""

    access_key: str
    signature: str
    expires: str
    payload: str


def is_query_signed(head: RequestHead) -> bool:
    return "Signature" in head.query and "AWSAccessKeyId" in head.query and "authorization" not in head.headers


def read_query_claim(head: RequestHead, *, now_seconds: int) -> QueryClaim:
    """Raises Unauthenticated s3.access_denied for an expired or timeless URL."""
    expires = head.query.get("Expires", "")
    if not (expires.isascii() and expires.isdigit() and len(expires) <= _EXPIRES_DIGITS_MAX):
        raise Unauthenticated("s3.access_denied", "Query-string authentication requires the Expires parameter")
    if now_seconds > int(expires):
        raise Unauthenticated("s3.access_denied", "Request has expired")
    return QueryClaim(
        access_key=head.query["AWSAccessKeyId"],
        signature=head.query["Signature"],
        expires=expires,
        payload=head.headers.get("x-amz-content-sha256", UNSIGNED_PAYLOAD),
    )


def verify_query(head: RequestHead, claim: QueryClaim, secret: str, *, host_bucket: str = "") -> None:
    """Raises Unauthenticated s3.signature_does_not_match. `host_bucket` is the bucket named by the Host header."""
    text = query_string_to_sign(head, claim.expires, host_bucket=host_bucket)
    mac = hmac.digest(secret.encode(), text.encode("utf-8", "surrogateescape"), "sha1")
    if not hmac.compare_digest(base64.b64encode(mac), claim.signature.encode()):
        raise Unauthenticated(
            "s3.signature_does_not_match",
            "The request signature we calculated does not match the signature you provided. "
            "Check your key and signing method.",
        )


def query_string_to_sign(head: RequestHead, expires: str, *, host_bucket: str = "") -> str:
    headers = head.headers
    amz = "".join(
        f"{name}:{' '.join(headers[name].split())}\n" for name in sorted(headers) if name.startswith("x-amz-")
    )
    parameters = sorted((name, value) for name, value in head.pairs if name in _SIGNED_PARAMETERS)
    query = "&".join(f"{name}={value}" if value else name for name, value in parameters)
    resource = (f"/{host_bucket}" if host_bucket else "") + head.raw_path + (f"?{query}" if query else "")
    said = f"{headers.get('content-md5', '')}\n{headers.get('content-type', '')}\n{expires}"
    return f"{head.method}\n{said}\n{amz}{resource}"
