"""S3 access keys: what a client signs its requests with."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass, field

from dwd.security.keyring import Keyring

PURPOSE = "access keys"
"""Keyring purpose under which secrets are sealed."""
ID_PREFIX = "DWAK"
ID_CHARS = 20
SECRET_CHARS = 40

_ID_ALPHABET = string.ascii_uppercase + "234567"
_SECRET_ALPHABET = string.ascii_letters + string.digits
"""No `/` and `+`, which AWS has: tools that put a secret in a URL or a shell line trip over them. 238 bits remain."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKey:
    """The id names the key in the open; the secret never leaves in a repr, a log or an error."""

    id: str
    secret: str = field(repr=False)


def new_access_key() -> AccessKey:
    tail = "".join(secrets.choice(_ID_ALPHABET) for _ in range(ID_CHARS - len(ID_PREFIX)))
    secret = "".join(secrets.choice(_SECRET_ALPHABET) for _ in range(SECRET_CHARS))
    return AccessKey(id=ID_PREFIX + tail, secret=secret)


def seal_secret(ring: Keyring, key: AccessKey) -> bytes:
    """The secret as control keeps it; it opens only for this key's id."""
    return ring.for_purpose(PURPOSE).seal(key.secret.encode(), context=context_of(key.id))


def open_secret(ring: Keyring, access_key: str, sealed: bytes) -> str:
    """The inverse of `seal_secret`, with `ring` a view for PURPOSE (whoever opens often keeps it). Raises Corrupt."""
    return ring.open(sealed, context=context_of(access_key)).decode()


def context_of(access_key: str) -> bytes:
    """What a sealed secret is bound to."""
    return b"access key\0" + access_key.encode()
