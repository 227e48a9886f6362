"""Boxes sealed with the cluster's keys, sealed anew with its newest one: what they hold is only ever in memory."""

from __future__ import annotations

from dwd.security import access_keys, authority
from dwd.security.boxes import box_version
from dwd.security.data_keys import BUCKET_PURPOSE, NAMED_PURPOSE
from dwd.security.keyring import Keyring


class Rewrapper:
    """For one ring; each purpose has subkeys of its own."""

    def __init__(self, ring: Keyring) -> None:
        self._ring = ring
        self._views = {
            purpose: ring.for_purpose(purpose)
            for purpose in (authority.PURPOSE, access_keys.PURPOSE, BUCKET_PURPOSE, NAMED_PURPOSE)
        }

    def is_current(self, box: bytes) -> bool:
        """Raises Corrupt."""
        return box_version(box) == self._ring.active_version

    def authority_key(self, box: bytes) -> bytes:
        return self._again(authority.PURPOSE, box, authority.CONTEXT)

    def access_key(self, access_key: str, box: bytes) -> bytes:
        return self._again(access_keys.PURPOSE, box, access_keys.context_of(access_key))

    def bucket_key(self, bucket: str, box: bytes) -> bytes:
        return self._again(BUCKET_PURPOSE, box, bucket.encode())

    def named_key(self, name: str, box: bytes) -> bytes:
        return self._again(NAMED_PURPOSE, box, name.encode())

    def _again(self, purpose: str, box: bytes, context: bytes) -> bytes:
        """Raises Corrupt, VersionRefused."""
        view = self._views[purpose]
        return view.seal(view.open(box, context=context), context=context)
