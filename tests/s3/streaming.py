"""PUT in signed chunks (STREAMING-AWS4-HMAC-SHA256-PAYLOAD[-TRAILER]), as the SDKs for Java and Go and aws-cli v2 send
it over plain HTTP and boto3 does not. The request's own signature is botocore's; the chunks are signed here.

Source: AWS "Signature calculations: transferring payload in multiple chunks", "... with trailing checksums".
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import google_crc32c
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

CHUNK_BYTES = 64 * 1024
_EMPTY = hashlib.sha256().hexdigest()
_TRAILERS = {
    "x-amz-checksum-crc32c": lambda data: int(google_crc32c.value(data)).to_bytes(4, "big"),
    "x-amz-checksum-sha256": lambda data: hashlib.sha256(data).digest(),
}


class _StreamingAuth(S3SigV4Auth):
    """Signs the head with the name of a framing in the place of the payload's hash."""

    def __init__(self, *arguments: Any, framing: str) -> None:
        super().__init__(*arguments)
        self._framing = framing

    def payload(self, request: Any) -> str:
        return self._framing


def streaming_put(
    s3: Mapping[str, Any], bucket: str, key: str, data: bytes, *, trailer: str = "", tamper: bool = False
) -> tuple[int, bytes]:
    """(status, body) of the answer. `trailer` names the checksum header that follows the data; `tamper` changes a byte
    of the second chunk after it was signed.
    """
    framing = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" + ("-TRAILER" if trailer else "")
    headers = {"Content-Encoding": "aws-chunked", "x-amz-decoded-content-length": str(len(data))}
    if trailer:
        headers["x-amz-trailer"] = trailer
    url = f"{s3['endpoint']}/{bucket}/{quote(key)}"
    request = AWSRequest(method="PUT", url=url, headers=headers)
    auth = _StreamingAuth(Credentials(s3["access_key"], s3["secret_key"]), "s3", s3["region"], framing=framing)
    auth.add_auth(request)
    chunks = _Chunks(auth, request, s3["secret_key"])
    body = chunks.frame(data, trailer)
    if tamper:
        at = body.index(b"\r\n", CHUNK_BYTES + 200) + 100
        body = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    try:
        connection.request("PUT", urlsplit(url).path, body, dict(request.headers.items()))
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class _Chunks:
    def __init__(self, auth: Any, request: Any, secret: str) -> None:
        self._scope = auth.credential_scope(request)
        self._stamp = request.context["timestamp"]
        self._previous = request.headers["Authorization"].rpartition("Signature=")[2]
        key = f"AWS4{secret}".encode()
        for part in self._scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        self._key = key

    def frame(self, data: bytes, trailer: str) -> bytes:
        out = bytearray()
        for at in range(0, len(data) + CHUNK_BYTES, CHUNK_BYTES):
            chunk = data[at : at + CHUNK_BYTES]
            signature = self._sign("PAYLOAD", f"{_EMPTY}\n{hashlib.sha256(chunk).hexdigest()}")
            out += f"{len(chunk):x};chunk-signature={signature}\r\n".encode() + chunk
            if chunk:
                out += b"\r\n"
            else:
                break
        if trailer:
            value = base64.b64encode(_TRAILERS[trailer](data)).decode()
            digest = hashlib.sha256(f"{trailer}:{value}\n".encode()).hexdigest()
            out += f"{trailer}:{value}\r\nx-amz-trailer-signature:{self._sign('TRAILER', digest)}\r\n".encode()
        return bytes(out + b"\r\n")

    def _sign(self, what: str, hashes: str) -> str:
        text = f"AWS4-HMAC-SHA256-{what}\n{self._stamp}\n{self._scope}\n{self._previous}\n{hashes}"
        self._previous = hmac.digest(self._key, text.encode(), "sha256").hex()
        return self._previous
