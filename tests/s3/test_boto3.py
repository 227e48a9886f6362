"""boto3 with its default settings, and the settings people change."""

from __future__ import annotations

import http.client
import io
import os
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from tests.s3.conftest import client

MIB = 1024 * 1024
NAMES = [
    "plain",
    "a b/ü+x",
    "weird/%41&=?#;:@'()!*~,$",
    "日本語/😀",
    "trailing/",
    "a//b",
    "..",
    "back\\slash",
    " edge ",
]


@pytest.mark.parametrize("key", NAMES)
def test_object_comes_back_when_its_name_is_unusual(s3: Any, key: str) -> None:
    s3.put_object(Bucket="bkt", Key=key, Body=b"data", Metadata={"k": "v"}, ContentType="text/x")
    answer = s3.get_object(Bucket="bkt", Key=key, ChecksumMode="ENABLED")
    assert (answer["Body"].read(), answer["Metadata"], answer["ContentType"]) == (b"data", {"k": "v"}, "text/x")
    listed = s3.list_objects_v2(Bucket="bkt", Prefix=key)
    assert [one["Key"] for one in listed["Contents"]] == [key]
    s3.delete_object(Bucket="bkt", Key=key)
    with pytest.raises(ClientError, match="404"):
        s3.head_object(Bucket="bkt", Key=key)


@pytest.mark.parametrize("size", [0, 1, 65_536, 5 * MIB + 1, 9 * MIB])
def test_large_objects_come_back_when_put_whole(s3: Any, size: int) -> None:
    data = os.urandom(size)
    s3.put_object(Bucket="bkt", Key="whole", Body=data)
    assert s3.get_object(Bucket="bkt", Key="whole")["Body"].read() == data


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
def test_parts_are_checked_when_uploaded_by_the_transfer_manager(s3: Any, algorithm: str) -> None:
    data = os.urandom(17 * MIB)
    s3.upload_fileobj(
        io.BytesIO(data), "bkt", "parts", ExtraArgs={"ChecksumAlgorithm": algorithm},
        Config=TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=6 * MIB),
    )  # fmt: skip
    got = io.BytesIO()
    s3.download_fileobj("bkt", "parts", got)
    assert got.getvalue() == data
    assert s3.head_object(Bucket="bkt", Key="parts")["ETag"].endswith('-3"')
    copied = {"Bucket": "bkt", "Key": "parts"}
    s3.copy(copied, "bkt", "copy", Config=TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=8 * MIB))
    assert s3.get_object(Bucket="bkt", Key="copy")["Body"].read() == data


@pytest.mark.parametrize("signed", [True, False])
def test_trailing_checksums_are_taken_when_sent_over_tls(tls: tuple[str, Path], signed: bool) -> None:
    endpoint, certificate = tls
    made = client(endpoint, verify=str(certificate), s3={"payload_signing_enabled": signed})
    made.create_bucket(Bucket="tls-bkt" if signed else "tls-bkt2")
    bucket = "tls-bkt" if signed else "tls-bkt2"
    for size in (0, 10, 3 * MIB):
        data = os.urandom(size)
        put = made.put_object(Bucket=bucket, Key="k", Body=data)
        got = made.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
        assert got["Body"].read() == data
        assert got["ChecksumCRC32"] == put["ChecksumCRC32"]


@pytest.mark.parametrize("version", [None, "s3v4"])
def test_presigned_url_works_for_anyone_who_has_it(endpoint: str, s3: Any, version: str | None) -> None:
    made = client(endpoint, **({"signature_version": version} if version else {}))
    url = made.generate_presigned_url("put_object", Params={"Bucket": "bkt", "Key": "pre signed"})
    # urllib would add a Content-Type, which version 2 signs.
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=20)
    connection.request("PUT", url, b"given")
    assert connection.getresponse().status == 200
    connection.close()
    url = made.generate_presigned_url("get_object", Params={"Bucket": "bkt", "Key": "pre signed"})
    with urllib.request.urlopen(url) as answer:
        assert answer.read() == b"given"


def test_errors_are_the_ones_boto3_knows(s3: Any) -> None:
    with pytest.raises(s3.exceptions.NoSuchKey):
        s3.get_object(Bucket="bkt", Key="none")
    with pytest.raises(s3.exceptions.NoSuchBucket):
        s3.list_objects_v2(Bucket="none-such")
    with pytest.raises(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket="bkt")
    with pytest.raises(s3.exceptions.NoSuchUpload):
        s3.abort_multipart_upload(Bucket="bkt", Key="k", UploadId="none")
    s3.put_object(Bucket="bkt", Key="cond", Body=b"1")
    with pytest.raises(ClientError, match="PreconditionFailed"):
        s3.put_object(Bucket="bkt", Key="cond", Body=b"2", IfNoneMatch="*")
    with pytest.raises(ClientError, match="NotImplemented"):
        s3.put_bucket_versioning(Bucket="bkt", VersioningConfiguration={"Status": "Enabled"})
    with pytest.raises(ClientError, match="NotImplemented"):
        s3.put_object(Bucket="bkt", Key="k", Body=b"", Tagging="a=b")


def test_paginators_see_every_key_once(s3: Any) -> None:
    s3.create_bucket(Bucket="pages")
    keys = [f"d{number % 3}/k{number:02}" for number in range(30)]
    for key in keys:
        s3.put_object(Bucket="pages", Key=key, Body=b"")
    for operation in ("list_objects", "list_objects_v2"):
        pages = s3.get_paginator(operation).paginate(Bucket="pages", PaginationConfig={"PageSize": 7})
        assert [one["Key"] for page in pages for one in page.get("Contents", [])] == sorted(keys)
        pages = s3.get_paginator(operation).paginate(Bucket="pages", Delimiter="/", PaginationConfig={"PageSize": 1})
        assert [one["Prefix"] for page in pages for one in page.get("CommonPrefixes", [])] == ["d0/", "d1/", "d2/"]
    s3.delete_objects(Bucket="pages", Delete={"Objects": [{"Key": key} for key in keys]})
    s3.delete_bucket(Bucket="pages")
