"""Access keys in memory."""

from __future__ import annotations

from dwd.objects.authentication import Credential


class MemoryCredentials:
    def __init__(self, *credentials: Credential) -> None:
        self._credentials = {one.caller.access_key: one for one in credentials}

    async def find(self, access_key: str) -> Credential | None:
        return self._credentials.get(access_key)
