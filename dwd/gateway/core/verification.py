"""Checking a body while it passes: payload hash, chunk signatures, Content-MD5, checksums.

Work is given as a list of events over large buffers so that a caller may run `update` on a worker thread; calls must
follow one another. Nothing is believed before `finish`.

Source: AWS "Signature calculations: transferring payload in multiple chunks (chunked upload)" for the chunk and
trailer strings to sign.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dwd.base.errors import InvalidArgument, Unauthenticated
from dwd.gateway.core.checksums import DIGEST_BYTES, HEADER_OF, Hasher, decode_digest, encode_digest, new_hasher
from dwd.gateway.core.chunked import ChunkData, ChunkEnd, Event
from dwd.gateway.core.payload import Framing, PayloadPlan
from dwd.objects.ports import Checksum

_EMPTY_SHA256 = hashlib.sha256().hexdigest()
_TRAILER_SIGNATURE = "x-amz-trailer-signature"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkSigning:
    """What chunk signatures chain from: the request's own signature, and the key that made it."""

    key: bytes = field(repr=False)
    stamp: str
    scope: str
    seed: str


class Verifier:
    """Digests of one body. `checksum` is set by `finish`."""

    def __init__(self, plan: PayloadPlan, signing: ChunkSigning | None) -> None:
        if plan.framing is Framing.CHUNKED_SIGNED and signing is None:
            raise InvalidArgument("s3.invalid_request", "Signed chunks need a request signed by AWS4-HMAC-SHA256.")
        self.checksum: Checksum | None = None
        self._plan = plan
        self._signing = signing if plan.framing is Framing.CHUNKED_SIGNED else None
        self._previous = signing.seed if signing is not None else ""
        self._sha256 = hashlib.sha256() if plan.sha256 is not None else None
        self._md5 = hashlib.md5(usedforsecurity=False) if plan.declared.md5 is not None else None
        kind = plan.declared.kind
        self._kind = new_hasher(kind) if kind is not None else None
        self._hashers: list[Hasher] = [one for one in (self._sha256, self._md5, self._kind) if one is not None]
        self._chunk = hashlib.sha256()
        self._length = 0

    @property
    def idle(self) -> bool:
        """Nothing to compute but the length."""
        return not self._hashers and self._signing is None

    def update(self, data: memoryview, events: Sequence[Event]) -> None:
        """`data` is the next stretch of payload; `events` cut the same bytes into chunks (empty when not framed).

        Raises Unauthenticated s3.signature_does_not_match at the first chunk whose signature is wrong.
        """
        self._length += len(data)
        for hasher in self._hashers:
            hasher.update(data)
        if self._signing is None:
            return
        for event in events:
            if isinstance(event, ChunkData):
                self._chunk.update(event.data)
            else:
                self._end_chunk(event)

    def finish(self, trailers: Mapping[str, str]) -> None:
        """The body is over. Raises InvalidArgument or Unauthenticated naming what does not hold."""
        plan = self._plan
        if self._length != plan.length:
            raise InvalidArgument(
                "s3.incomplete_body",
                "You did not provide the number of bytes specified by the Content-Length HTTP header.",
                expected=plan.length,
                received=self._length,
            )
        if self._sha256 is not None and self._sha256.digest() != plan.sha256:
            raise InvalidArgument(
                "s3.content_sha256_mismatch",
                "The provided 'x-amz-content-sha256' header does not match what was computed.",
            )
        if self._md5 is not None and self._md5.digest() != plan.declared.md5:
            raise InvalidArgument("s3.bad_digest", "The Content-MD5 you specified did not match what we received.")
        if plan.trailers and self._signing is not None:
            self._check_trailers(self._signing, trailers)
        if self._kind is not None:
            self._check_kind(self._kind, trailers)

    def _end_chunk(self, event: ChunkEnd) -> None:
        signing = self._signing
        if signing is None:
            return
        text = (
            f"AWS4-HMAC-SHA256-PAYLOAD\n{signing.stamp}\n{signing.scope}\n{self._previous}\n"
            f"{_EMPTY_SHA256}\n{self._chunk.hexdigest()}"
        )
        self._previous = _expect(signing.key, text, event.signature)
        self._chunk = hashlib.sha256()

    def _check_trailers(self, signing: ChunkSigning, trailers: Mapping[str, str]) -> None:
        lines = "".join(f"{name}:{value}\n" for name, value in trailers.items() if name != _TRAILER_SIGNATURE)
        digest = hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()
        text = f"AWS4-HMAC-SHA256-TRAILER\n{signing.stamp}\n{signing.scope}\n{self._previous}\n{digest}"
        _expect(signing.key, text, trailers.get(_TRAILER_SIGNATURE, ""))

    def _check_kind(self, hasher: Hasher, trailers: Mapping[str, str]) -> None:
        kind, declared = self._plan.declared.kind, self._plan.declared.digest
        if kind is None:
            return
        name = HEADER_OF[kind]
        if declared is None:
            if name not in trailers:
                raise InvalidArgument("s3.malformed_trailer", f"The announced trailer {name} did not come.")
            declared = decode_digest(trailers[name], DIGEST_BYTES[kind])
            if declared is None:
                raise InvalidArgument("s3.invalid_request", f"Value for {name} trailing header is invalid.")
        digest = hasher.digest()
        if digest != declared:
            raise InvalidArgument(
                "s3.bad_digest", f"The {kind.value} you specified did not match the calculated checksum."
            )
        self.checksum = Checksum(kind=kind, value=encode_digest(digest))


def _expect(key: bytes, text: str, claimed: str) -> str:
    expected = hmac.digest(key, text.encode("utf-8", "surrogateescape"), "sha256").hex()
    if not hmac.compare_digest(expected.encode(), claimed.encode("utf-8", "replace")):
        raise Unauthenticated(
            "s3.signature_does_not_match", "The signature of a chunk of the body does not match its bytes."
        )
    return expected
