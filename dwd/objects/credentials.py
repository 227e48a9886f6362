"""Access keys from this node's copy of control: authentication never leaves the node."""

from __future__ import annotations

from dataclasses import dataclass, field

from dwd.meta.core.control.rows import AccessKeyRow, Standing
from dwd.meta.view import ControlView
from dwd.objects.authentication import Credential
from dwd.objects.ports import Caller
from dwd.security.access_keys import PURPOSE, open_secret
from dwd.security.keyring import Keyring

OPENED_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    row: AccessKeyRow
    secret: str = field(repr=False)


class ControlCredentials:
    """Implements `dwd.objects.authentication.Credentials`. Opened secrets are kept while their row stays the same."""

    def __init__(self, view: ControlView, keyring: Keyring) -> None:
        self._view = view
        self._keyring = keyring.for_purpose(PURPOSE)
        self._opened: dict[str, _Opened] = {}

    async def find(self, access_key: str) -> Credential | None:
        """None when unknown or disabled. Raises Unavailable meta.control_stale, Corrupt."""
        self._view.require_fresh()
        answer = self._view.access_key(access_key)
        key, user = answer.key, answer.user
        if key is None or user is None or Standing.DISABLED in {key.standing, user.standing}:
            self._opened.pop(access_key, None)
            return None
        opened = self._opened.get(access_key)
        if opened is None or opened.row != key:
            secret = open_secret(self._keyring, access_key, key.sealed_secret)
            opened = _Opened(row=key, secret=secret)
            if len(self._opened) >= OPENED_MAX:
                self._opened.clear()
            self._opened[access_key] = opened
        caller = Caller(user=user.name, access_key=access_key, admin=user.admin)
        return Credential(caller=caller, secret=opened.secret)
