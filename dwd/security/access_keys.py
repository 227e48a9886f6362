"""S3 access keys: what a client signs its requests with."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass, field

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
