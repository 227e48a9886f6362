"""The cluster's keys for data at rest: S3 secrets, the authority's key, inline object bytes.

    box:     [1 format = 1][4 key version][16 salt][12 nonce][ciphertext][16 tag]      big-endian
    keyring: [1 format = 1][4 active version][2 count] then count x [4 version][32 key]

Every box is AES-256-GCM under a subkey HKDF-SHA256(cluster key, salt, purpose); salt and purpose make subkeys of
different processes and uses independent. `context` (what the bytes are and where they belong) is authenticated, not
stored: a box moved to another row does not open.

Invariants: nonces are 96 random bits, and one subkey seals at most 2^30 boxes before the salt is drawn anew, which
keeps the chance of a repeated nonce under 2^-37 a subkey (NIST SP 800-38D, 8.3 allows 2^32 boxes). Salts are 128
random bits, so the cluster key itself needs no bound in practice. Old versions stay in the ring to open old boxes.
Source: NIST SP 800-38D; RFC 5869; the salted-subkey idea is that of XAES-256-GCM and of the AWS Encryption SDK.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from dwd.base.errors import Corrupt, InvalidArgument, VersionRefused
from dwd.security.sealing import SealingKey, open_sealed, seal_for

FORMAT = 1
KEY_BYTES = 32
SALT_BYTES = 16
NONCE_BYTES = 12
TAG_BYTES = 16
SEALS_PER_SALT_MAX = 1 << 30
SUBKEYS_CACHED_MAX = 1024
VERSIONS_MAX = 1000
DEFAULT_PURPOSE = "general"
NODE_CONTEXT = b"cluster keyring"
"""What a ring sealed for a node is bound to."""

_HEADER = struct.Struct(f">BI{SALT_BYTES}s")
_RING = struct.Struct(">BIH")
_RING_KEY = struct.Struct(f">I{KEY_BYTES}s")

OVERHEAD_BYTES = _HEADER.size + NONCE_BYTES + TAG_BYTES
"""How much longer a box is than its plaintext."""


class Keyring:
    """Versioned keys, the newest of which seals. Safe to share between threads; never shows a key.

    `for_purpose` gives a view with subkeys of its own; keep that view, its caches are what makes sealing fast.
    """

    def __init__(self, keys: Mapping[int, bytes], *, active: int, purpose: str = DEFAULT_PURPOSE) -> None:
        if active not in keys:
            raise InvalidArgument("security.bad_keyring", f"the keyring has no key of its active version {active}")
        if len(keys) > VERSIONS_MAX or any(len(key) != KEY_BYTES for key in keys.values()):
            raise InvalidArgument("security.bad_keyring", f"a keyring holds up to {VERSIONS_MAX} keys of 32 bytes")
        self._keys = dict(keys)
        self._active = active
        self._purpose = purpose
        self._opening: dict[bytes, AESGCM] = {}
        self._header, self._sealing = self._draw_salt()
        self._sealed = 0

    def __repr__(self) -> str:
        return f"Keyring(active={self._active}, versions={sorted(self._keys)}, purpose={self._purpose!r})"

    @property
    def active_version(self) -> int:
        return self._active

    def for_purpose(self, purpose: str) -> Keyring:
        """The same keys, sealing boxes that only the same purpose opens."""
        return Keyring(self._keys, active=self._active, purpose=purpose)

    def rotated(self) -> Keyring:
        """A ring with one more key, which is the active one."""
        newest = max(self._keys) + 1
        return Keyring({**self._keys, newest: os.urandom(KEY_BYTES)}, active=newest, purpose=self._purpose)

    def seal(self, plaintext: bytes | bytearray | memoryview, *, context: bytes) -> bytes:
        """A box of `plaintext` that opens only with the same context."""
        self._sealed += 1
        if self._sealed > SEALS_PER_SALT_MAX:
            self._header, self._sealing = self._draw_salt()
            self._sealed = 1
        header, cipher = self._header, self._sealing
        nonce = os.urandom(NONCE_BYTES)
        return b"".join((header, nonce, cipher.encrypt(nonce, plaintext, context)))

    def open(self, box: bytes | memoryview, *, context: bytes) -> bytes:
        """The plaintext. Raises Corrupt (damaged, or of another context or purpose) and VersionRefused (a key or
        format this ring does not have).
        """
        if len(box) < OVERHEAD_BYTES:
            raise Corrupt("security.box_damaged", f"a sealed box of {len(box)} bytes is too short")
        header = bytes(box[: _HEADER.size])
        cipher = self._opening.get(header)
        if cipher is None:
            cipher = self._opening_cipher(header)
        view = memoryview(box)
        nonce = view[_HEADER.size : _HEADER.size + NONCE_BYTES]
        try:
            return cipher.decrypt(nonce, view[_HEADER.size + NONCE_BYTES :], context)
        except InvalidTag as error:
            raise Corrupt(
                "security.box_damaged", "sealed bytes are damaged, or were sealed for another place"
            ) from error

    def encode(self) -> bytes:
        """All keys in plain bytes: only ever to be put in a box sealed for a node."""
        rows = [_RING_KEY.pack(version, key) for version, key in sorted(self._keys.items())]
        return _RING.pack(FORMAT, self._active, len(rows)) + b"".join(rows)

    def _draw_salt(self) -> tuple[bytes, AESGCM]:
        salt = os.urandom(SALT_BYTES)
        header = _HEADER.pack(FORMAT, self._active, salt)
        cipher = self._subkey(self._active, salt)
        self._remember(header, cipher)
        return header, cipher

    def _opening_cipher(self, header: bytes) -> AESGCM:
        form, version, salt = _HEADER.unpack(header)
        if form != FORMAT:
            raise VersionRefused("security.box_format", f"sealed bytes of unknown format {form}")
        if version not in self._keys:
            raise VersionRefused(
                "security.key_missing", f"sealed with key version {version}, which this node does not have"
            )
        cipher = self._subkey(version, salt)
        self._remember(header, cipher)
        return cipher

    def _remember(self, header: bytes, cipher: AESGCM) -> None:
        if len(self._opening) >= SUBKEYS_CACHED_MAX:
            self._opening.clear()
        self._opening[header] = cipher

    def _subkey(self, version: int, salt: bytes) -> AESGCM:
        info = b"dwd keyring 1\0" + self._purpose.encode()
        derived = HKDF(algorithm=hashes.SHA256(), length=KEY_BYTES, salt=salt, info=info)
        return AESGCM(derived.derive(self._keys[version]))


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
