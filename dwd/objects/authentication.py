"""Access keys as gateways find them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from dwd.objects.ports import Caller


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """An access key in the open, for verifying a signature; never logged (the secret is left out of repr)."""

    caller: Caller
    secret: str = field(repr=False)


class Credentials(Protocol):
    """Where gateways find access keys. Local: authentication never leaves the node."""

    async def find(self, access_key: str) -> Credential | None:
        """None when unknown or disabled. Raises Unavailable when this node's copy of control is too old to trust."""
        ...
