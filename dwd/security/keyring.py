"""Keys for data at rest, in versions: the cluster's (for S3 secrets, the authority's key, keys of buckets), a bucket's.

    keyring: [1 format = 1][4 active version][2 count] then count x [4 version][32 key]      big-endian

Every box (boxes.py) is AES-256-GCM under a subkey HKDF-SHA256(key, salt, purpose); salt and purpose make subkeys of
different processes and uses independent. `context` (what the bytes are and where they belong) is authenticated, not
stored: a box moved to another row does not open.

Invariants: nonces are 96 random bits, and one subkey seals at most 2^30 boxes before the salt is drawn anew, which
keeps the chance of a repeated nonce under 2^-37 a subkey (NIST SP 800-38D, 8.3 allows 2^32 boxes). Salts are 128
random bits, so the cluster key itself needs no bound in practice. Old versions stay in the ring to
open old boxes until nothing names them (dwd.meta.core.control.keys).
Source: NIST SP 800-38D; RFC 5869; the salted-subkey idea is that of XAES-256-GCM and of the AWS Encryption SDK.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dwd.base.errors import Corrupt, InvalidArgument, VersionRefused
from dwd.security.boxes import FORMAT, HEADER, NONCE_BYTES, OVERHEAD_BYTES, SALT_BYTES
from dwd.security.sealing import SealingKey, open_sealed, seal_for

KEY_BYTES = 32
SEALS_PER_SALT_MAX = 1 << 30
SUBKEYS_CACHED_MAX = 1024
VERSIONS_MAX = 1000
DEFAULT_PURPOSE = "general"
NODE_CONTEXT = b"cluster keyring"
"""What a ring sealed for a node is bound to."""

_RING = struct.Struct(">BIH")
_RING_KEY = struct.Struct(f">I{KEY_BYTES}s")


@dataclass(frozen=True, slots=True)
class _Keys:
    of_version: Mapping[int, bytes] = field(repr=False)
    active: int


@dataclass(slots=True)
class _Shared:
    """What a ring and its views look at: replaced as a whole, so no thread sees half of it."""

    keys: _Keys
    refresh: Callable[[], None] | None = None


@dataclass(slots=True, kw_only=True)
class _Sealing:
    """The subkey that seals at present, and how often it has."""

    keys: _Keys = field(repr=False)
    header: bytes
    cipher: AESGCM
    count: int = 0


def _checked(keys: Mapping[int, bytes], active: int) -> _Keys:
    if active not in keys:
        raise InvalidArgument("security.bad_keyring", f"the keyring has no key of its active version {active}")
    if len(keys) > VERSIONS_MAX or any(len(key) != KEY_BYTES for key in keys.values()):
        raise InvalidArgument("security.bad_keyring", f"a keyring holds up to {VERSIONS_MAX} keys of 32 bytes")
    return _Keys(dict(keys), active)


class Keyring:
    """Versioned keys, the newest of which seals. Safe to share between threads; never shows a key.

    `for_purpose` gives a view with subkeys of its own, which follows when the ring adopts another one's keys; keep that
    view, its caches are what makes sealing fast.
    """

    def __init__(self, keys: Mapping[int, bytes], *, active: int, purpose: str = DEFAULT_PURPOSE) -> None:
        self._shared = _Shared(_checked(keys, active))
        self._purpose = purpose
        self._opening: dict[bytes, AESGCM] = {}
        self._sealing: _Sealing | None = None

    def __repr__(self) -> str:
        return f"Keyring(active={self.active_version}, versions={self.versions}, purpose={self._purpose!r})"

    @property
    def active_version(self) -> int:
        return self._shared.keys.active

    @property
    def versions(self) -> tuple[int, ...]:
        """Ascending."""
        return tuple(sorted(self._shared.keys.of_version))

    def for_purpose(self, purpose: str) -> Keyring:
        """The same keys, sealing boxes that only the same purpose opens."""
        view = Keyring.__new__(Keyring)
        view._shared, view._purpose, view._opening, view._sealing = self._shared, purpose, {}, None  # noqa: SLF001
        return view

    def rotated(self) -> Keyring:
        """A ring with one more key, which is the active one."""
        keys = self._shared.keys
        newest = max(keys.of_version) + 1
        return Keyring({**keys.of_version, newest: os.urandom(KEY_BYTES)}, active=newest, purpose=self._purpose)

    def retired(self) -> Keyring:
        """A ring with the active key alone."""
        keys = self._shared.keys
        return Keyring({keys.active: keys.of_version[keys.active]}, active=keys.active, purpose=self._purpose)

    def adopt(self, other: Keyring) -> None:
        """Take the other ring's keys, in this ring and all its views."""
        self._shared.keys = other._shared.keys

    def when_missing(self, refresh: Callable[[], None]) -> None:
        """Before a key is said to be missing, `refresh` may have this ring adopt a newer one."""
        self._shared.refresh = refresh

    def refresh(self) -> None:
        """Have the newest keys adopted, where somebody knows of newer ones."""
        if self._shared.refresh is not None:
            self._shared.refresh()

    def has_keys_of(self, other: Keyring) -> bool:
        """Whether both hold the same keys and seal with the same one."""
        return self._shared.keys == other._shared.keys

    def seal(self, plaintext: bytes | bytearray | memoryview, *, context: bytes) -> bytes:
        """A box of `plaintext` that opens only with the same context."""
        keys, sealing = self._shared.keys, self._sealing
        if sealing is None or sealing.keys is not keys or sealing.count >= SEALS_PER_SALT_MAX:
            sealing = self._sealing = self._draw_salt(keys)
        sealing.count += 1
        nonce = os.urandom(NONCE_BYTES)
        return b"".join((sealing.header, nonce, sealing.cipher.encrypt(nonce, plaintext, context)))

    def open(self, box: bytes | memoryview, *, context: bytes) -> bytes:
        """The plaintext. Raises Corrupt (damaged, or of another context or purpose) and VersionRefused (a key or
        format this ring does not have).
        """
        if len(box) < OVERHEAD_BYTES:
            raise Corrupt("security.box_damaged", f"a sealed box of {len(box)} bytes is too short")
        header = bytes(box[: HEADER.size])
        cipher = self._opening.get(header)
        if cipher is None:
            cipher = self._opening_cipher(header)
        view = memoryview(box)
        nonce = view[HEADER.size : HEADER.size + NONCE_BYTES]
        try:
            return cipher.decrypt(nonce, view[HEADER.size + NONCE_BYTES :], context)
        except InvalidTag as error:
            raise Corrupt(
                "security.box_damaged", "sealed bytes are damaged, or were sealed for another place"
            ) from error

    def encode(self) -> bytes:
        """All keys in plain bytes: only ever to be put in a box sealed for a node."""
        keys = self._shared.keys
        rows = [_RING_KEY.pack(version, key) for version, key in sorted(keys.of_version.items())]
        return _RING.pack(FORMAT, keys.active, len(rows)) + b"".join(rows)

    def _draw_salt(self, keys: _Keys) -> _Sealing:
        salt = os.urandom(SALT_BYTES)
        header = HEADER.pack(FORMAT, keys.active, salt)
        cipher = self._subkey(keys.of_version[keys.active], salt)
        self._remember(header, cipher)
        return _Sealing(keys=keys, header=header, cipher=cipher)

    def _opening_cipher(self, header: bytes) -> AESGCM:
        form, version, salt = HEADER.unpack(header)
        if form != FORMAT:
            raise VersionRefused("security.box_format", f"sealed bytes of unknown format {form}")
        key = self._shared.keys.of_version.get(version)
        if key is None:
            self.refresh()
            key = self._shared.keys.of_version.get(version)
        if key is None:
            raise VersionRefused(
                "security.key_missing", f"sealed with key version {version}, which this node does not have"
            )
        cipher = self._subkey(key, salt)
        self._remember(header, cipher)
        return cipher

    def _remember(self, header: bytes, cipher: AESGCM) -> None:
        if len(self._opening) >= SUBKEYS_CACHED_MAX:
            self._opening.clear()
        self._opening[header] = cipher

    def _subkey(self, key: bytes, salt: bytes) -> AESGCM:
        info = b"dwd keyring 1\0" + self._purpose.encode()
        derived = HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=salt, info=info)
        return AESGCM(derived.derive(key))


def new_keyring() -> Keyring:
    """One fresh key, version 1."""
    return Keyring({1: os.urandom(KEY_BYTES)}, active=1)


def decode_keyring(content: bytes) -> Keyring:
    """The inverse of `Keyring.encode`. Raises Corrupt, or VersionRefused for a later format."""
    if len(content) < _RING.size:
        raise Corrupt("security.bad_keyring", "the keyring is cut off")
    form, active, count = _RING.unpack_from(content)
    if form != FORMAT:
        raise VersionRefused("security.keyring_format", f"keyring of unknown format {form}")
    if len(content) != _RING.size + count * _RING_KEY.size:
        raise Corrupt("security.bad_keyring", "the keyring's length does not match its count")
    keys: dict[int, bytes] = dict(_RING_KEY.iter_unpack(content[_RING.size :]))
    try:
        return Keyring(keys, active=active)
    except InvalidArgument as error:
        raise Corrupt("security.bad_keyring", error.message) from error


def seal_keyring(ring: Keyring, public_key: bytes) -> bytes:
    """The ring in a box that only the node with the sealing key of `public_key` opens."""
    return seal_for(public_key, ring.encode(), context=NODE_CONTEXT)


def open_keyring(key: SealingKey, box: bytes) -> Keyring:
    """The inverse of `seal_keyring`. Raises Corrupt, VersionRefused."""
    return decode_keyring(open_sealed(key, box, context=NODE_CONTEXT))
