"""Who sent a request: the claim in its head, the secret from the node's own copy of control, the signature."""

from __future__ import annotations

from dataclasses import dataclass

from dwd.base.clock import Clock
from dwd.base.errors import Unauthenticated
from dwd.gateway.core.head import RequestHead
from dwd.gateway.core.sigv4 import SigningKeys, read_claim, verify
from dwd.gateway.core.verification import ChunkSigning
from dwd.objects.ports import Caller, Credentials


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """A caller whose signature held, and what its body must hold to."""

    caller: Caller
    payload: str
    signing: ChunkSigning


class Authenticator:
    """Verifies SigV4 requests for one region."""

    def __init__(self, credentials: Credentials, clock: Clock, *, region: str) -> None:
        self._credentials = credentials
        self._clock = clock
        self._region = region
        self._keys = SigningKeys()

    async def authenticate(self, head: RequestHead) -> Identity:
        """Raises Unauthenticated, InvalidArgument (malformed), Unavailable (control too old to trust)."""
        claim = read_claim(head, now_seconds=self._clock.unix_ms() // 1_000, region=self._region)
        credential = await self._credentials.find(claim.access_key)
        if credential is None:
            raise Unauthenticated(
                "s3.invalid_access_key",
                "The AWS Access Key Id you provided does not exist in our records.",
                a_w_s_access_key_id=claim.access_key[:128],
            )
        key = self._keys.key(credential.secret, claim.date, claim.region)
        verify(head, claim, key)
        return Identity(
            caller=credential.caller,
            payload=claim.payload,
            signing=ChunkSigning(key=key, stamp=claim.stamp, scope=claim.scope, seed=claim.signature),
        )
