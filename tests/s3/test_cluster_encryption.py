"""Encryption as S3 clients ask for it, of six real daemons; and that it is so on their disks."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.s3.clients import Clients

pytestmark = pytest.mark.integration
BUCKET = "sealed"
MARK = b"Nobody reads this sentence on any disk: "
LARGE = (MARK * 140_000)[: 5 * 1024 * 1024 + 12_345]
SMALL = MARK * 20
KEY = os.urandom(32)
MINE = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": KEY}


@pytest.fixture(scope="module")
def s3(clients: Clients) -> Any:
    made = clients.boto3
    made.create_bucket(Bucket=BUCKET)
    made.put_bucket_encryption(
        Bucket=BUCKET,
        ServerSideEncryptionConfiguration={
            "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
        },
    )
    return made


def refused(call: Any, **arguments: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    answer = caught.value.response
    return answer["Error"].get("Code", ""), answer["ResponseMetadata"]["HTTPStatusCode"]


def body(s3: Any, key: str, **how: Any) -> bytes:
    found: bytes = s3.get_object(Bucket=BUCKET, Key=key, **how)["Body"].read()
    return found


def test_a_buckets_default_encrypts_what_says_nothing(s3: Any) -> None:
    found = s3.get_bucket_encryption(Bucket=BUCKET)["ServerSideEncryptionConfiguration"]["Rules"][0]
    assert found["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    for key, data in (("small", SMALL), ("large", LARGE)):
        assert s3.put_object(Bucket=BUCKET, Key=key, Body=data)["ServerSideEncryption"] == "AES256"
        assert s3.head_object(Bucket=BUCKET, Key=key)["ServerSideEncryption"] == "AES256"
        assert body(s3, key) == data
        assert body(s3, key, Range="bytes=700-799") == data[700:800]
    copied = s3.copy_object(Bucket=BUCKET, Key="copy", CopySource=f"{BUCKET}/large")
    assert copied["ServerSideEncryption"] == "AES256"
    assert body(s3, "copy") == LARGE


def test_a_request_encrypts_where_the_bucket_does_not(s3: Any) -> None:
    s3.create_bucket(Bucket="open")
    assert refused(s3.get_bucket_encryption, Bucket="open") == ("ServerSideEncryptionConfigurationNotFoundError", 404)
    assert "ServerSideEncryption" not in s3.put_object(Bucket="open", Key="k", Body=b"x")
    data = os.urandom(len(LARGE))  # not the sentence: the copy lies open
    made = s3.put_object(Bucket="open", Key="k", Body=data, ServerSideEncryption="AES256")
    assert made["ServerSideEncryption"] == "AES256"
    again = s3.copy_object(Bucket="open", Key="k2", CopySource="open/k")  # as the bucket has it
    assert "ServerSideEncryption" not in again
    assert s3.get_object(Bucket="open", Key="k2")["Body"].read() == data
    for key in ("k", "k2"):
        s3.delete_object(Bucket="open", Key=key)
    s3.delete_bucket(Bucket="open")


@pytest.mark.parametrize("data", [SMALL, LARGE], ids=["small", "large"])
def test_a_customers_key_is_needed_each_time_when_it_was_given(s3: Any, data: bytes) -> None:
    made = s3.put_object(Bucket=BUCKET, Key="mine", Body=data, **MINE)
    assert made["SSECustomerAlgorithm"] == "AES256"
    assert "ServerSideEncryption" not in made
    assert body(s3, "mine", **MINE) == data
    assert s3.head_object(Bucket=BUCKET, Key="mine", **MINE)["SSECustomerAlgorithm"] == "AES256"
    assert refused(s3.get_object, Bucket=BUCKET, Key="mine") == ("InvalidRequest", 400)
    wrong = {**MINE, "SSECustomerKey": bytes(32)}
    assert refused(s3.get_object, Bucket=BUCKET, Key="mine", **wrong) == ("AccessDenied", 403)
    assert refused(s3.head_object, Bucket=BUCKET, Key="mine", **wrong)[1] == 403
    assert refused(s3.get_object, Bucket=BUCKET, Key="small", **MINE) == ("InvalidRequest", 400)
    lying = {**MINE, "SSECustomerKey": base64.b64encode(KEY).decode(), "SSECustomerKeyMD5": "AAAAAAAAAAAAAAAAAAAAAA=="}
    assert refused(s3.put_object, Bucket=BUCKET, Key="x", Body=b"x", **lying) == ("InvalidArgument", 400)
    source = {
        "CopySource": f"{BUCKET}/mine", "CopySourceSSECustomerAlgorithm": "AES256", "CopySourceSSECustomerKey": KEY,
    }  # fmt: skip
    assert refused(s3.copy_object, Bucket=BUCKET, Key="x", CopySource=f"{BUCKET}/mine") == ("InvalidRequest", 400)
    s3.copy_object(Bucket=BUCKET, Key="theirs", **source)
    assert body(s3, "theirs") == data


def test_an_upload_in_parts_keeps_a_customers_key_when_it_began_with_it(s3: Any) -> None:
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="parts", **MINE)["UploadId"]
    where = {"Bucket": BUCKET, "Key": "parts", "UploadId": upload}
    assert refused(s3.upload_part, PartNumber=1, Body=b"x", **where) == ("InvalidRequest", 400)
    sent = [s3.upload_part(PartNumber=number, Body=LARGE, **where, **MINE)["ETag"] for number in (1, 2)]
    parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(sent, 1)]
    s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **where)
    assert body(s3, "parts", **MINE) == 2 * LARGE
    around = f"bytes={len(LARGE) - 5}-{len(LARGE) + 4}"
    assert body(s3, "parts", Range=around, **MINE) == (2 * LARGE)[len(LARGE) - 5 : len(LARGE) + 5]


def test_named_keys_are_kms_keys_when_clients_say_so(s3: Any, clients: Clients) -> None:
    clients.cluster.dwctl("keyring", "create", "payroll").good()
    kms = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "payroll"}
    made = s3.put_object(Bucket=BUCKET, Key="wages", Body=SMALL, **kms)
    assert (made["ServerSideEncryption"], made["SSEKMSKeyId"]) == ("aws:kms", "payroll")
    assert body(s3, "wages") == SMALL
    clients.cluster.dwctl("keyring", "disable", "payroll", "--yes").good()
    assert refused(s3.put_object, Bucket=BUCKET, Key="x", Body=b"x", **kms) == ("KMS.DisabledException", 400)
    assert refused(s3.get_object, Bucket=BUCKET, Key="wages") == ("KMS.DisabledException", 400)
    clients.cluster.dwctl("keyring", "enable", "payroll").good()
    assert body(s3, "wages") == SMALL
    unknown = {**kms, "SSEKMSKeyId": "nobody"}
    assert refused(s3.put_object, Bucket=BUCKET, Key="x", Body=b"x", **unknown) == ("KMS.NotFoundException", 400)


def test_nothing_lies_open_and_keys_are_nowhere_after_a_rotation(s3: Any, clients: Clients) -> None:
    """After all the tests above: their bytes on no disk, their keys in no log."""
    clients.cluster.dwctl("keyring", "rotate", "--yes").good()
    assert body(s3, "large") == LARGE
    assert body(s3, "mine", **MINE) in {SMALL, LARGE}
    secret = clients.s3["secret_key"].encode()
    needles = (MARK, KEY, KEY.hex().encode(), secret)
    found = []
    for path in Path(clients.cluster.root).glob("n*/**/*"):
        if path.is_file() and path.suffix != ".json":
            data = path.read_bytes()
            found += [(path.name, needle[:12]) for needle in needles if needle in data]
    assert found == []
