"""What clients say of encryption: read as it is meant, or refused by name; a customer's key is never shown."""

from __future__ import annotations

import base64
import hashlib

import pytest

from dwd.base.errors import InvalidArgument
from dwd.gateway.core.encryption import (
    bucket_encryption_document,
    customer_key,
    encryption_headers,
    read_bucket_encryption,
    refuse_wish,
    wanted_encryption,
)
from dwd.objects.encryption import NOT_ENCRYPTED, Encryption, EncryptionMode

KEY = bytes(range(32))
SSE = "x-amz-server-side-encryption"
MINE = {
    f"{SSE}-customer-algorithm": "AES256",
    f"{SSE}-customer-key": base64.b64encode(KEY).decode(),
    f"{SSE}-customer-key-md5": base64.b64encode(hashlib.md5(KEY).digest()).decode(),
}
CLUSTER = Encryption(mode=EncryptionMode.CLUSTER)


def named(name: str) -> Encryption:
    return Encryption(mode=EncryptionMode.NAMED_KEY, named_key=name)


@pytest.mark.parametrize(
    ("headers", "wanted"),
    [
        ({}, None),
        ({SSE: "AES256"}, CLUSTER),
        ({SSE: "aws:kms", f"{SSE}-aws-kms-key-id": "payroll"}, named("payroll")),
        ({SSE: "aws:kms", f"{SSE}-aws-kms-key-id": "arn:aws:kms:eu-1:12:key/payroll"}, named("payroll")),
        ({SSE: "aws:kms"}, named("")),
        (MINE, Encryption(mode=EncryptionMode.CUSTOMER_KEY, customer_key=KEY)),
    ],
)
def test_wishes_are_read(headers: dict[str, str], wanted: Encryption | None) -> None:
    assert wanted_encryption(headers, secure=True) == wanted


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({SSE: "rot13"}, "s3.invalid_encryption_algorithm"),
        ({SSE: "aws:kms:dsse"}, "s3.invalid_encryption_algorithm"),
        ({SSE: "AES256", f"{SSE}-aws-kms-key-id": "k"}, "s3.invalid_argument"),
        ({f"{SSE}-aws-kms-key-id": "k"}, "s3.invalid_argument"),
        ({**MINE, SSE: "AES256"}, "s3.invalid_argument"),
        ({**MINE, f"{SSE}-customer-algorithm": "DES"}, "s3.invalid_encryption_algorithm"),
        ({**MINE, f"{SSE}-customer-key": "c2hvcnQ="}, "s3.invalid_argument"),
        ({**MINE, f"{SSE}-customer-key-md5": "AAAAAAAAAAAAAAAAAAAAAA=="}, "s3.invalid_argument"),
        ({f"{SSE}-customer-key-md5": "AAAA"}, "s3.invalid_encryption_algorithm"),
    ],
)
def test_wishes_are_refused_by_name_when_they_cannot_be_obeyed(headers: dict[str, str], code: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        wanted_encryption(headers, secure=True)
    assert caught.value.code == code
    assert headers.get(f"{SSE}-customer-key", "\0") not in str(caught.value) + repr(caught.value.fields)


def test_a_customers_key_is_refused_when_anybody_on_the_way_could_read_it() -> None:
    with pytest.raises(InvalidArgument, match="secure connection"):
        customer_key(MINE, secure=False)
    assert customer_key(MINE, secure=True) == KEY
    assert KEY.hex() not in repr(wanted_encryption(MINE, secure=True))


def test_a_wish_is_refused_when_nothing_is_stored() -> None:
    with pytest.raises(InvalidArgument, match="not supported"):
        refuse_wish({SSE: "AES256"})


def test_answers_tell_who_holds_the_key() -> None:
    assert encryption_headers(NOT_ENCRYPTED, {}) == {}
    assert encryption_headers(CLUSTER, {}) == {SSE: "AES256"}
    assert encryption_headers(named("p"), {}) == {SSE: "aws:kms", f"{SSE}-aws-kms-key-id": "p"}
    mine = encryption_headers(Encryption(mode=EncryptionMode.CUSTOMER_KEY), MINE)
    assert mine[f"{SSE}-customer-key-MD5"] == MINE[f"{SSE}-customer-key-md5"]


@pytest.mark.parametrize("encryption", [CLUSTER, named("payroll")])
def test_a_buckets_encryption_is_told_as_it_was_set(encryption: Encryption) -> None:
    assert read_bucket_encryption(bucket_encryption_document(encryption)) == encryption


@pytest.mark.parametrize("rules", ["", "<Rule/>", "<Rule><A/></Rule><Rule/>"])
def test_a_document_is_refused_when_it_has_not_one_rule(rules: str) -> None:
    document = f"<ServerSideEncryptionConfiguration>{rules}</ServerSideEncryptionConfiguration>"
    with pytest.raises(InvalidArgument) as caught:
        read_bucket_encryption(document.encode())
    assert caught.value.code == "s3.malformed_xml"
