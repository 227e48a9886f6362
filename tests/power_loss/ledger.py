"""What clients were told, and so what a cluster may hold: the judge of a power loss."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import dataclass
from random import Random  # noqa: TID251 - contents, not decisions of the daemon


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """`size` bytes that follow from `seed`."""

    seed: int
    size: int

    def bytes(self) -> bytes:
        return Random(self.seed).randbytes(self.size)


@dataclass(slots=True)
class _Key:
    possible: list[Content | None]
    under_way: Content | None = None
    open: bool = False
    """An operation's outcome is not known."""


class Ledger:
    """One writer a key at a time. None stands for "no such object"."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._keys: dict[str, _Key] = {}
        self.acknowledged = 0
        self.unknown = 0

    def begin(self, key: str, content: Content | None) -> None:
        """`key` is about to become `content`: from now on both may be seen."""
        with self._lock:
            found = self._keys.setdefault(key, _Key([None]))
            found.under_way, found.open = content, True

    def acknowledge(self, key: str) -> None:
        with self._lock:
            found = self._keys[key]
            found.possible, found.open = [found.under_way], False
            self.acknowledged += 1

    def refuse(self, key: str) -> None:
        """The cluster said that nothing was changed."""
        with self._lock:
            self._keys[key].open = False

    def usable(self, key: str) -> bool:
        """Whether it is known what `key` holds: only then a client goes on with it."""
        with self._lock:
            found = self._keys.get(key)
            return found is None or (not found.open and len(found.possible) == 1)

    def holds(self, key: str) -> Content | None:
        """Of a usable key."""
        with self._lock:
            found = self._keys.get(key)
            return None if found is None else found.possible[0]

    def names(self) -> list[str]:
        with self._lock:
            return sorted(self._keys)

    def judge(self, key: str, seen: bytes | None) -> str | None:
        """What is wrong with finding `seen` under `key`, None if nothing; then that is what it holds."""
        with self._lock:
            found = self._keys[key]
            possible = [*found.possible, found.under_way] if found.open else list(found.possible)
        for content in possible:
            if _same(content, seen):
                with self._lock:
                    self._keys[key] = _Key([content])
                    self.unknown += len(possible) > 1
                return None
        what = "nothing" if seen is None else f"{len(seen)} bytes ({hashlib.sha256(seen).hexdigest()[:12]})"
        return f"{key}: found {what}, may be {possible}"


def _same(content: Content | None, seen: bytes | None) -> bool:
    if content is None or seen is None:
        return content is None and seen is None
    return content.size == len(seen) and content.bytes() == seen
