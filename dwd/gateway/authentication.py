"""Who sent a request: the claim in its head, the secret from the node's own copy of control, the signature.

Hazard: with `Identity.signing` None there is no key to check chunk signatures with; such a request must not carry them.
"""

from __future__ import annotations

from dataclasses import dataclass

from dwd.base.clock import Clock
from dwd.base.errors import Unauthenticated
from dwd.gateway.core.head import RequestHead, bucket_of_host
from dwd.gateway.core.sigv2 import is_query_signed, read_query_claim, verify_query
from dwd.gateway.core.sigv4 import SigningKeys, read_claim, verify
from dwd.gateway.core.verification import ChunkSigning
from dwd.objects.authentication import Credential, Credentials
from dwd.objects.ports import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A caller whose signature held, and what its body must hold to."""

    caller: Caller
    payload: str
    signing: ChunkSigning | None


class Authenticator:
    """Verifies SigV4 requests for one region."""

    def __init__(self, credentials: Credentials, clock: Clock, *, region: str, domains: tuple[str, ...] = ()) -> None:
        self._credentials = credentials
        self._clock = clock
        self._region = region
        self._domains = domains
        self._keys = SigningKeys()

    async def authenticate(self, head: RequestHead) -> Identity:
        """Raises Unauthenticated, InvalidArgument (malformed), Unavailable (control too old to trust)."""
        now_seconds = self._clock.unix_ms() // 1_000
        if is_query_signed(head):
            return await self._version_2(head, now_seconds)
        claim = read_claim(head, now_seconds=now_seconds, region=self._region)
        credential = await self._find(claim.access_key)
        key = self._keys.key(credential.secret, claim.date, claim.region)
        verify(head, claim, key)
        return Identity(
            caller=credential.caller,
            payload=claim.payload,
            signing=ChunkSigning(key=key, stamp=claim.stamp, scope=claim.scope, seed=claim.signature),
        )

    async def _version_2(self, head: RequestHead, now_seconds: int) -> Identity:
        claim = read_query_claim(head, now_seconds=now_seconds)
        credential = await self._find(claim.access_key)
        host_bucket = bucket_of_host(head.headers.get("host", ""), self._domains)
        verify_query(head, claim, credential.secret, host_bucket=host_bucket)
        return Identity(caller=credential.caller, payload=claim.payload, signing=None)

    async def _find(self, access_key: str) -> Credential:
        credential = await self._credentials.find(access_key)
        if credential is None:
            raise Unauthenticated(
                "s3.invalid_access_key",
                "The AWS Access Key Id you provided does not exist in our records.",
                a_w_s_access_key_id=access_key[:128],
            )
        return credential
