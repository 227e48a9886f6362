"""What clients say of encryption: SSE-S3, SSE-KMS by named keys of the cluster, SSE-C; and buckets' defaults.

Invariants: a customer's key stands in no error, no log and no repr; a header that would not be obeyed is refused.
Source: AWS PutObject, "Using server-side encryption with customer-provided keys", PutBucketEncryption.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping

from dwd.base.errors import InvalidArgument
from dwd.gateway.core.xml_read import children, malformed, parse_document, text_of
from dwd.gateway.core.xml_write import document, element
from dwd.objects.encryption import Encryption, EncryptionMode

KEY_BYTES = 32
KEY_NAME_CHARACTERS_MAX = 256
_SSE = "x-amz-server-side-encryption"
_SOURCE = "x-amz-copy-source-server-side-encryption"
_KMS_KEY = f"{_SSE}-aws-kms-key-id"
_BUCKET_KEY = f"{_SSE}-bucket-key-enabled"
OFFERED = frozenset({
    _SSE, _KMS_KEY, _BUCKET_KEY,
    *(f"{side}-customer-{name}" for side in (_SSE, _SOURCE) for name in ("algorithm", "key", "key-md5")),
})  # fmt: skip
_ALGORITHMS = {"AES256": EncryptionMode.CLUSTER, "aws:kms": EncryptionMode.NAMED_KEY}
_NAMES = {mode: name for name, mode in _ALGORITHMS.items()}


def wanted_encryption(headers: Mapping[str, str], *, secure: bool) -> Encryption | None:
    """Of what is to be stored; None where the request leaves it to the bucket. Raises InvalidArgument
    s3.invalid_argument, s3.invalid_encryption_algorithm, s3.invalid_request.
    """
    customer, algorithm = customer_key(headers, secure=secure), headers.get(_SSE)
    if customer:
        if algorithm is not None:
            raise _invalid(
                _SSE, "Server Side Encryption with Customer provided key is incompatible with the encryption method"
            )
        return Encryption(mode=EncryptionMode.CUSTOMER_KEY, customer_key=customer)
    if algorithm is None:
        if _KMS_KEY in headers:
            raise _invalid(_KMS_KEY, f"{_KMS_KEY} needs {_SSE}: aws:kms beside it")
        return None
    return _encryption(algorithm, headers.get(_KMS_KEY, ""))


def customer_key(headers: Mapping[str, str], *, secure: bool, source: bool = False) -> bytes:
    """The key a client holds, of the object or (`source`) of what is copied; b"" for none. Raises InvalidArgument."""
    side = _SOURCE if source else _SSE
    algorithm, key, digest = (headers.get(f"{side}-customer-{name}") for name in ("algorithm", "key", "key-md5"))
    if algorithm is None and key is None and digest is None:
        return b""
    if not secure:
        raise InvalidArgument(
            "s3.invalid_request",
            "Requests specifying Server Side Encryption with Customer provided keys must be made over a secure "
            "connection.",
        )
    if algorithm != "AES256":
        raise InvalidArgument(
            "s3.invalid_encryption_algorithm",
            "Requests specifying Server Side Encryption with Customer provided keys must provide a valid encryption "
            "algorithm.",
        )
    plain = _decoded(key or "")
    if len(plain) != KEY_BYTES:
        raise _invalid(
            f"{side}-customer-key", "The secret key was invalid for the specified algorithm: it must have 256 bits."
        )
    told = _decoded(digest or "")
    if not hmac.compare_digest(told, hashlib.md5(plain, usedforsecurity=False).digest()):
        raise _invalid(
            f"{side}-customer-key-MD5", "The calculated MD5 hash of the key did not match the hash that was provided."
        )
    return plain


def refuse_wish(headers: Mapping[str, str]) -> None:
    """Of requests that store nothing anew. Raises InvalidArgument s3.invalid_argument."""
    for name in (_SSE, _KMS_KEY):
        if name in headers:
            raise _invalid(name, f"{name} header is not supported for this operation.")


def encryption_headers(encryption: Encryption, headers: Mapping[str, str]) -> dict[str, str]:
    """What the answer says of it; `headers` are the request's, which held the customer's key."""
    match encryption.mode:
        case EncryptionMode.NONE:
            return {}
        case EncryptionMode.CLUSTER:
            return {_SSE: "AES256"}
        case EncryptionMode.NAMED_KEY:
            return {_SSE: "aws:kms", _KMS_KEY: encryption.named_key}
        case EncryptionMode.CUSTOMER_KEY:
            digest = headers.get(f"{_SSE}-customer-key-md5")
            told = {f"{_SSE}-customer-algorithm": "AES256"}
            return told if digest is None else {**told, f"{_SSE}-customer-key-MD5": digest}


def read_bucket_encryption(data: bytes) -> Encryption:
    """A ServerSideEncryptionConfiguration. Raises InvalidArgument s3.malformed_xml, s3.invalid_argument,
    s3.invalid_encryption_algorithm.
    """
    tree = parse_document(data, "ServerSideEncryptionConfiguration")
    rules = children(tree, "Rule")
    defaults = children(rules[0], "ApplyServerSideEncryptionByDefault") if len(rules) == 1 else []
    if len(defaults) != 1:
        raise malformed("one Rule with one ApplyServerSideEncryptionByDefault")
    return _encryption(
        (text_of(defaults[0], "SSEAlgorithm") or "").strip(), (text_of(defaults[0], "KMSMasterKeyID") or "").strip()
    )


def bucket_encryption_document(encryption: Encryption) -> bytes:
    content = element("SSEAlgorithm", _NAMES[encryption.mode])
    if encryption.named_key:
        content += element("KMSMasterKeyID", encryption.named_key)
    rule = f"<ApplyServerSideEncryptionByDefault>{content}</ApplyServerSideEncryptionByDefault>"
    return document(
        "ServerSideEncryptionConfiguration", f"<Rule>{rule}{element('BucketKeyEnabled', value=False)}</Rule>"
    )


def _encryption(algorithm: str, key_id: str) -> Encryption:
    mode = _ALGORITHMS.get(algorithm)
    if mode is None:
        raise InvalidArgument(
            "s3.invalid_encryption_algorithm",
            "The encryption request you specified is not valid. Supported values: AES256, and aws:kms with the id of a "
            "named key of this cluster",
        )
    if mode is EncryptionMode.CLUSTER:
        if key_id:
            raise _invalid(_KMS_KEY, "A key id belongs to aws:kms alone.")
        return Encryption(mode=mode)
    if len(key_id) > KEY_NAME_CHARACTERS_MAX:
        raise _invalid(_KMS_KEY, "The key id is too long.")
    # arn:aws:kms:region:account:key/NAME and alias/NAME mean NAME: there are no others here.
    return Encryption(mode=mode, named_key=key_id.rpartition("/")[2])


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _invalid(name: str, message: str) -> InvalidArgument:
    return InvalidArgument("s3.invalid_argument", message, argument_name=name)
