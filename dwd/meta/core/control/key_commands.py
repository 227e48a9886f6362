"""Commands about named keys and the rotation of the cluster's keyring."""

from __future__ import annotations

from dataclasses import dataclass, field

from dwd.meta.core.control.rows import BoxChange, SealedRing, Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateNamedKey:
    """Refused: AlreadyExists; Busy (too many; meta.keyring_stale)."""

    name: str
    sealed_key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class SetNamedKeyState:
    """Refused: NotFound."""

    name: str
    standing: Standing


@dataclass(frozen=True, slots=True, kw_only=True)
class RotateKeyring:
    """A new version of the cluster's keys: every node's copy of the ring at once, compare-and-swap. Boxes sealed with
    an older version are refused from here on. Refused: Conflict meta.keyring_changed (`version` is not one more than
    the present one, or `rings` does not name the nodes there are).
    """

    version: int
    rings: tuple[SealedRing, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RewrapBoxes:
    """Put boxes of the present version in the place of older ones that hold the same. What changed meanwhile, or is
    gone, is left alone. Receipt.count: how many were. Refused: Busy meta.keyring_stale.
    """

    boxes: tuple[BoxChange, ...] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetireKeys:
    """Every node's ring without the versions before `version`, the present one. Refused: Conflict meta.keyring_in_use
    while a box names one of them, meta.keyring_changed as RotateKeyring.
    """

    version: int
    rings: tuple[SealedRing, ...] = field(repr=False)


KeyCommand = CreateNamedKey | SetNamedKeyState | RotateKeyring | RewrapBoxes | RetireKeys
