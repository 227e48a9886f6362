"""Who holds the key above an object's data key: as requests ask and answers tell."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class EncryptionMode(Enum):
    """Who holds the key above an object's data key."""

    NONE = "none"
    """Blocks lie as they are; inline bytes are sealed even so."""
    CLUSTER = "cluster"
    """The cluster, by the bucket's key (SSE-S3)."""
    NAMED_KEY = "named-key"
    """The cluster, by a key with a name (SSE-KMS)."""
    CUSTOMER_KEY = "customer-key"
    """The client, who sends it with each request (SSE-C)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encryption:
    mode: EncryptionMode = EncryptionMode.NONE
    named_key: str = ""
    customer_key: bytes = field(default=b"", repr=False)
    """32 bytes, in requests only."""


NOT_ENCRYPTED = Encryption()
