"""How one object's bytes are to lie on devices, and how to get them back: which key, which packing.

Invariants: a data key is drawn for one object or one upload and never again; an object stored after a bucket's change
to encryption was acknowledged is encrypted: a put that began under the older setting is refused, not let through.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Protocol

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from dwd.base.errors import Corrupt, InvalidArgument, NotFound, PermissionDenied, Unavailable, VersionRefused
from dwd.meta.core.control import rows
from dwd.meta.core.control.rows import BucketRow
from dwd.objects.core.packing import SEALED, PackedBlock, Packer, is_packed_type
from dwd.objects.encryption import NOT_ENCRYPTED, Encryption, EncryptionMode
from dwd.objects.ports import ObjectHeaders
from dwd.runtime.files import Buffer
from dwd.security.data_keys import (
    BUCKET_PURPOSE,
    NAMED_PURPOSE,
    OpenedKeys,
    Scheme,
    Sealing,
    WrappingKey,
    decode_sealing,
    encode_sealing,
    new_key,
    stream_cipher,
)
from dwd.security.keyring import KEY_BYTES, Keyring

CIPHERS_MAX = 64
"""Parts of one object whose keys a reader remembers."""

_SCHEMES = {
    EncryptionMode.NONE: Scheme.NONE,
    EncryptionMode.CLUSTER: Scheme.BUCKET,
    EncryptionMode.NAMED_KEY: Scheme.NAMED,
    EncryptionMode.CUSTOMER_KEY: Scheme.CUSTOMER,
}
_MODES = {scheme: mode for mode, scheme in _SCHEMES.items()}
_OF_BUCKETS = {
    rows.Encryption.OFF: EncryptionMode.NONE,
    rows.Encryption.ON: EncryptionMode.CLUSTER,
    rows.Encryption.NAMED_KEY: EncryptionMode.NAMED_KEY,
}
_FOR_BUCKETS = {mode: setting for setting, mode in _OF_BUCKETS.items()}


class NamedKeys(Protocol):
    """Where the sealed named keys are found: this node's copy of control."""

    def named_key(self, name: str) -> rows.NamedKeyRow | None: ...


class ObjectKeys:
    """The keys above data keys, as this node opens them."""

    def __init__(self, keyring: Keyring, named: NamedKeys) -> None:
        """`keyring` is the cluster's."""
        self._buckets = OpenedKeys(keyring, purpose=BUCKET_PURPOSE)
        self._named_keys = OpenedKeys(keyring, purpose=NAMED_PURPOSE)
        self._named = named

    def new_bucket_key(self, bucket: str) -> bytes:
        """A fresh key, sealed for the bucket's row."""
        return self._buckets.seal(bucket, new_key())

    def bucket(self, row: BucketRow) -> WrappingKey:
        """Raises Unavailable while this node has not got the keyring that the key is sealed with, Corrupt."""
        try:
            return self._buckets.open(row.name, row.sealed_key)
        except VersionRefused as error:
            raise _behind() from error

    def named(self, name: str) -> WrappingKey:
        """Raises NotFound objects.no_such_named_key; PermissionDenied objects.named_key_disabled; as `bucket`."""
        row = self._named.named_key(name)
        if row is None:
            raise NotFound(
                "objects.no_such_named_key",
                f"there is no key named {name[:64]!r}",
                hint="`dwctl keyring list` shows the named keys",
            )
        if row.standing is not rows.Standing.ENABLED:
            raise PermissionDenied("objects.named_key_disabled", f"the key named {name} is disabled")
        try:
            return self._named_keys.open(name, row.sealed_key)
        except VersionRefused as error:
            raise _behind() from error


def _behind() -> Unavailable:
    return Unavailable("objects.keyring_behind", "this node has not got the newest keys yet", hint="try again soon")


def encryption_of(at_rest: rows.AtRest) -> Encryption:
    """As gateways know it."""
    return Encryption(mode=_OF_BUCKETS[at_rest.encryption], named_key=at_rest.named_key)


def bucket_encryption(row: BucketRow) -> Encryption:
    """What the bucket asks of objects whose request says nothing."""
    return encryption_of(row.at_rest)


def at_rest_of(compression: int, encryption: Encryption) -> rows.AtRest:
    """As control keeps it. Raises InvalidArgument for what no bucket can ask for."""
    setting = _FOR_BUCKETS.get(encryption.mode)
    if setting is None:
        raise InvalidArgument("objects.bucket_encryption", "a bucket cannot ask for keys of its clients")
    return rows.AtRest(compression=compression, encryption=setting, named_key=encryption.named_key)


def object_encryption(sealing: bytes) -> Encryption:
    """What an object's row says of it. Raises VersionRefused, Corrupt."""
    if not sealing:
        return NOT_ENCRYPTED
    found = decode_sealing(sealing)
    return Encryption(mode=_MODES[found.scheme], named_key=found.name)


def owner_of(bucket: str, key: str) -> bytes:
    """What inline bytes and data keys are bound to: under another name they do not open."""
    return bucket.encode() + b"\0" + key.encode()


@dataclass(slots=True, kw_only=True)
class Protection:
    """Of one object or upload that is being stored. The data key is drawn when the first block wants it."""

    keys: ObjectKeys = field(repr=False)
    row: BucketRow
    key: str
    scheme: Scheme
    level: int
    name: str = ""
    asked: bool = False
    """The request said it, not the bucket."""
    wrapping: WrappingKey | None = field(default=None, repr=False)
    _data_key: bytes = field(default=b"", repr=False)

    def packer(self, salt: bytes = b"") -> Packer | None:
        """For the blocks of the object, or of a part; None when they stay as they are."""
        if self.scheme is Scheme.NONE:
            return Packer(level=self.level, cipher=None) if self.level else None
        return Packer(level=self.level, cipher=stream_cipher(self._key(), salt))

    def seal_inline(self, plain: Buffer) -> tuple[bytes, bytes]:
        """(sealed bytes, sealing) of an object that rides in its command."""
        packing, data = 0, plain
        own_key = self.scheme in {Scheme.NAMED, Scheme.CUSTOMER}
        if len(plain) and (self.level or own_key):
            packer = Packer(level=self.level, cipher=stream_cipher(self._key(), b"") if own_key else None)
            packed = packer.pack(plain, 0)
            packing, data = packed.packing, packed.data
        sealed = self.keys.bucket(self.row).inline.seal(data, context=owner_of(self.row.name, self.key))
        return sealed, self._sealing(packing, self._key() if own_key else b"")

    def seal(self, inline: Buffer | None) -> tuple[bytes | None, bytes]:
        """(sealed inline bytes, sealing) of an object; None for one in blocks."""
        return (None, self.sealing()) if inline is None else self.seal_inline(inline)

    def sealing(self) -> bytes:
        """For the row of an object in blocks, or of an upload."""
        return self._sealing(0, b"" if self.scheme is Scheme.NONE else self._key())

    def require_current(self, now: BucketRow) -> BucketRow:
        """The bucket as it is now, if what was stored still suits it. Raises Unavailable."""
        changed = now.at_rest.encryption is not self.row.at_rest.encryption and not self.asked
        if changed or now.created != self.row.created:
            raise Unavailable("objects.bucket_changing", f"bucket {now.name} was changed meanwhile", hint="try again")
        return now

    def encryption(self) -> Encryption:
        return Encryption(mode=_MODES[self.scheme], named_key=self.name)

    def _key(self) -> bytes:
        self._data_key = self._data_key or new_key()
        return self._data_key

    def _sealing(self, packing: int, data_key: bytes) -> bytes:
        box = b""
        if data_key:
            wrapping = self.wrapping or self.keys.bucket(self.row)
            box = wrapping.wrap(data_key, owner_of(self.row.name, self.key))
        return encode_sealing(Sealing(scheme=self.scheme, inline_packing=packing, name=self.name, box=box))


def protect(
    keys: ObjectKeys, row: BucketRow, key: str, wanted: Encryption | None, headers: ObjectHeaders
) -> Protection:
    """What the request asks for, else what the bucket does. Raises NotFound objects.no_such_named_key."""
    chosen = bucket_encryption(row) if wanted is None else wanted
    wrapping = None
    if chosen.mode is EncryptionMode.CUSTOMER_KEY:
        wrapping = customer_key(chosen.customer_key)
    elif chosen.mode is EncryptionMode.NAMED_KEY:
        if not chosen.named_key:
            chosen = replace(chosen, named_key=row.at_rest.named_key)
        if not chosen.named_key:
            raise InvalidArgument("objects.named_key_needed", "Name a key of this cluster for aws:kms.")
        wrapping = keys.named(chosen.named_key)
    return Protection(
        keys=keys,
        row=row,
        key=key,
        scheme=_SCHEMES[chosen.mode],
        level=packing_level(row, headers),
        name=chosen.named_key,
        asked=wanted is not None,
        wrapping=wrapping,
    )


def packing_level(row: BucketRow, headers: ObjectHeaders) -> int:
    """With which level the bytes of an object are compressed; 0 where its client says they are already."""
    packed = is_packed_type(headers.content_type, headers.system.get("content-encoding", ""))
    return 0 if packed else row.at_rest.compression


def customer_key(key: bytes) -> WrappingKey:
    """Raises InvalidArgument."""
    if len(key) != KEY_BYTES:
        raise InvalidArgument("objects.customer_key_invalid", f"a customer's key has {KEY_BYTES} bytes")
    return WrappingKey(key)


class Unsealer:
    """The keys of one stored object or upload. Making it verifies a customer's key."""

    def __init__(self, keys: ObjectKeys, row: BucketRow, key: str, sealing: bytes, customer: bytes) -> None:
        """Raises InvalidArgument objects.customer_key_needed, objects.customer_key_not_used; PermissionDenied
        objects.customer_key_wrong; Corrupt; as ObjectKeys does.
        """
        self._keys, self._row, self._key = keys, row, key
        self._sealing = decode_sealing(sealing)
        self._ciphers: dict[bytes, AESGCM] = {}
        self._data_key = b""
        scheme, box = self._sealing.scheme, self._sealing.box
        if scheme is Scheme.CUSTOMER and not customer:
            raise InvalidArgument(
                "objects.customer_key_needed",
                "The object was stored using a form of Server Side Encryption. The correct parameters must be provided "
                "to retrieve the object.",
            )
        if scheme is not Scheme.CUSTOMER and customer:
            raise InvalidArgument(
                "objects.customer_key_not_used", "The encryption parameters are not applicable to this object."
            )
        if box:
            self._data_key = self._unwrap(customer, box)

    def packer(self, level: int, salt: bytes) -> Packer | None:
        """For a part of the upload; None when its blocks stay as they are."""
        if self._sealing.scheme is Scheme.NONE:
            return Packer(level=level, cipher=None) if level else None
        return Packer(level=level, cipher=self._cipher(salt))

    def block(self, *, packing: int, length: int, plain_length: int, position: int, salt: bytes) -> PackedBlock | None:
        """How to read a block; None when its bytes are the object's. Raises Corrupt, VersionRefused."""
        if not packing and self._sealing.scheme is Scheme.NONE:
            return None
        cipher = None if self._sealing.scheme is Scheme.NONE else self._cipher(salt)
        return PackedBlock(packing=packing, length=length, plain_length=plain_length, position=position, cipher=cipher)

    def open_inline(self, sealed: bytes, size: int) -> Buffer:
        """The bytes of an object that came with its row. Raises Corrupt, VersionRefused."""
        data = self._keys.bucket(self._row).inline.open(sealed, context=owner_of(self._row.name, self._key))
        packing = self._sealing.inline_packing
        if not packing:
            return data
        cipher = self._cipher(b"") if packing & SEALED else None
        packed = PackedBlock(packing=packing, length=len(data), plain_length=size, position=0, cipher=cipher)
        return packed.unpack(data, 0, size, None)

    def sealing_for(self, key: str) -> bytes:
        """The same, for a copy of the object in its bucket that shares its blocks."""
        if not self._data_key:
            return encode_sealing(self._sealing)
        box = self._wrapping(b"").wrap(self._data_key, owner_of(self._row.name, key))
        return encode_sealing(replace(self._sealing, box=box))

    def _wrapping(self, customer: bytes) -> WrappingKey:
        if self._sealing.scheme is Scheme.CUSTOMER:
            return customer_key(customer)
        return self._keys.named(self._sealing.name) if self._sealing.name else self._keys.bucket(self._row)

    def _unwrap(self, customer: bytes, box: bytes) -> bytes:
        try:
            return self._wrapping(customer).unwrap(box, owner_of(self._row.name, self._key))
        except Corrupt:
            if not customer:
                raise
            raise PermissionDenied("objects.customer_key_wrong", "Access Denied") from None

    def _cipher(self, salt: bytes) -> AESGCM:
        if not self._data_key:
            raise Corrupt("objects.sealing_differs", "an object and its blocks do not agree on whether they are sealed")
        found = self._ciphers.get(salt)
        if found is None:
            if len(self._ciphers) >= CIPHERS_MAX:
                self._ciphers.clear()
            found = self._ciphers[salt] = stream_cipher(self._data_key, salt)
        return found


def check_customer_key(keys: ObjectKeys, row: BucketRow, key: str, sealing: bytes, customer: bytes) -> None:
    """Raises as Unsealer does, without opening what needs no customer's key."""
    if customer or object_encryption(sealing).mode is EncryptionMode.CUSTOMER_KEY:
        Unsealer(keys, row, key, sealing, customer)
