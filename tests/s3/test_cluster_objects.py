"""What S3 promises of objects, asked of six real daemons through boto3 and through bare HTTP."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import google_crc32c
import obstore
import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from dwd.gateway import native_crc64
from dwd.gateway.core import crc64
from tests.s3.clients import Clients
from tests.s3.streaming import streaming_put

pytestmark = pytest.mark.integration
MIB = 1024 * 1024
BUCKET = "objects"
ODD_KEYS = [
    "a b", "a+b", "a%b", "a%2Fb", "a//b", "//", "/leading", "trailing/", "ends in space ", ".", "..", "../../x",
    "a/./b", "back\\slash", "quote\"'<&>", "tab\tand\nline", "ü", "u\u0308", "日本語/😀", "?query=1#x", "k" * 1024,
    "é" * 512,
]  # fmt: skip


@pytest.fixture(scope="module")
def s3(clients: Clients) -> Any:
    native_crc64.install()
    clients.boto3.create_bucket(Bucket=BUCKET)
    return clients.boto3


def encoded(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


CHECKSUMS = {
    "CRC32": lambda data: encoded(zlib.crc32(data).to_bytes(4, "big")),
    "CRC32C": lambda data: encoded(int(google_crc32c.value(data)).to_bytes(4, "big")),
    "CRC64NVME": lambda data: encoded(crc64.update(0, data).to_bytes(8, "big")),
    "SHA1": lambda data: encoded(hashlib.sha1(data).digest()),
    "SHA256": lambda data: encoded(hashlib.sha256(data).digest()),
}


def failure(call: Any, **arguments: Any) -> tuple[str, int]:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    answer = caught.value.response
    return answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"]


def test_files_of_64_mib_come_back_when_moved_by_the_transfer_manager(s3: Any, tmp_path: Any) -> None:
    source, target = tmp_path / "up", tmp_path / "down"
    source.write_bytes(os.urandom(64 * MIB))
    s3.upload_file(str(source), BUCKET, "large")
    s3.download_file(BUCKET, "large", str(target))
    data = source.read_bytes()
    assert target.read_bytes() == data
    assert s3.head_object(Bucket=BUCKET, Key="large")["ETag"].endswith('-8"')
    second = s3.get_object(Bucket=BUCKET, Key="large", PartNumber=2)
    assert (second["Body"].read(), second["PartsCount"]) == (data[8 * MIB : 16 * MIB], 8)
    for first, last in ((0, 0), (1, 10), (4 * MIB - 1, 4 * MIB), (8 * MIB - 5, 8 * MIB + 5), (3 * MIB, 21 * MIB)):
        got = s3.get_object(Bucket=BUCKET, Key="large", Range=f"bytes={first}-{last}")
        assert got["Body"].read() == data[first : last + 1]
        assert got["ContentRange"] == f"bytes {first}-{last}/{len(data)}"
    assert s3.get_object(Bucket=BUCKET, Key="large", Range="bytes=-7")["Body"].read() == data[-7:]
    assert s3.get_object(Bucket=BUCKET, Key="large", Range=f"bytes={len(data) - 3}-")["Body"].read() == data[-3:]
    assert failure(s3.get_object, Bucket=BUCKET, Key="large", Range=f"bytes={len(data)}-") == ("InvalidRange", 416)

    source_of_copy = {"Bucket": BUCKET, "Key": "large"}
    s3.copy_object(Bucket=BUCKET, Key="whole copy", CopySource=source_of_copy)
    s3.copy(source_of_copy, BUCKET, "copy in parts", Config=TransferConfig(multipart_threshold=MIB))
    s3.delete_object(Bucket=BUCKET, Key="large")
    for key in ("whole copy", "copy in parts"):
        assert s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() == data


def test_thousands_of_keys_are_listed_in_pages_and_deleted_in_batches(clients: Clients) -> None:
    s3, bucket = clients.boto3, "thousands"
    s3.create_bucket(Bucket=bucket)
    keys = sorted(f"d{number % 5}/{number:04}" for number in range(2_500))
    store = clients.obstore(bucket)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: obstore.put(store, key, key.encode(), use_multipart=False), keys))
    for operation in ("list_objects", "list_objects_v2"):
        pages = list(s3.get_paginator(operation).paginate(Bucket=bucket))
        assert [one["Key"] for page in pages for one in page["Contents"]] == keys
        assert [len(page["Contents"]) for page in pages] == [1_000, 1_000, 500]
        pages = list(
            s3.get_paginator(operation).paginate(Bucket=bucket, Delimiter="/", PaginationConfig={"PageSize": 2})
        )
        assert [one["Prefix"] for page in pages for one in page["CommonPrefixes"]] == [f"d{n}/" for n in range(5)]
        pages = list(
            s3.get_paginator(operation).paginate(Bucket=bucket, Prefix="d3/", PaginationConfig={"PageSize": 99})
        )
        assert [one["Key"] for page in pages for one in page["Contents"]] == [key for key in keys if key[:3] == "d3/"]
    started = s3.list_objects_v2(Bucket=bucket, StartAfter=keys[2_490], FetchOwner=True)
    assert ([one["Key"] for one in started["Contents"]], started["KeyCount"]) == (keys[2_491:], 9)
    assert s3.list_objects(Bucket=bucket, Marker=keys[2_498])["Contents"][0]["Key"] == keys[2_499]

    for batch in (keys[:1_000], keys[1_000:1_500]):
        named = [{"Key": key} for key in batch]
        assert len(s3.delete_objects(Bucket=bucket, Delete={"Objects": named})["Deleted"]) == len(batch)
    assert failure(s3.delete_bucket, Bucket=bucket) == ("BucketNotEmpty", 409)
    left = [
        one["Key"] for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket) for one in page["Contents"]
    ]
    assert left == keys[1_500:]
    too_many = [{"Key": f"k{number}"} for number in range(1_001)]
    assert failure(s3.delete_objects, Bucket=bucket, Delete={"Objects": too_many}) == ("MalformedXML", 400)


def test_every_key_is_its_own_when_keys_are_odd(s3: Any) -> None:
    for key in ODD_KEYS:
        s3.put_object(Bucket=BUCKET, Key=f"{key}", Body=key.encode(), Metadata={"n": str(len(key))})
    for key in ODD_KEYS:
        got = s3.get_object(Bucket=BUCKET, Key=key)
        assert (got["Body"].read(), got["Metadata"]) == (key.encode(), {"n": str(len(key))})
        s3.copy_object(Bucket=BUCKET, Key="copied", CopySource={"Bucket": BUCKET, "Key": key})
        assert s3.get_object(Bucket=BUCKET, Key="copied")["Body"].read() == key.encode()
    listed = {one["Key"] for one in s3.list_objects_v2(Bucket=BUCKET)["Contents"]}
    assert set(ODD_KEYS) <= listed
    answer = s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": key} for key in ODD_KEYS]})
    assert {one["Key"] for one in answer["Deleted"]} == set(ODD_KEYS)
    assert not set(ODD_KEYS) & {one["Key"] for one in s3.list_objects(Bucket=BUCKET).get("Contents", [])}
    assert failure(s3.put_object, Bucket=BUCKET, Key="k" * 1025, Body=b"")[0] == "KeyTooLongError"


def test_headers_come_back_and_stored_bytes_are_untouched_when_content_is_encoded(s3: Any) -> None:
    packed = gzip.compress(b"x" * 10_000)
    said = {
        "ContentType": "text/plain; charset=utf-8", "ContentEncoding": "gzip", "CacheControl": "max-age=5",
        "ContentDisposition": 'attachment; filename="f"', "ContentLanguage": "de",
        "Metadata": {"one": "1", "two": "b c"},
    }  # fmt: skip
    s3.put_object(Bucket=BUCKET, Key="packed", Body=packed, **said)
    got = s3.get_object(Bucket=BUCKET, Key="packed")
    assert {name: got[name] for name in said} == said
    assert got["Body"].read() == packed
    s3.copy_object(
        Bucket=BUCKET, Key="packed", CopySource={"Bucket": BUCKET, "Key": "packed"}, MetadataDirective="REPLACE",
        Metadata={"three": "3"}, ContentType="a/b",
    )  # fmt: skip
    changed = s3.get_object(Bucket=BUCKET, Key="packed", ResponseContentType="c/d")
    assert (changed["Metadata"], changed["ContentType"], changed["Body"].read()) == ({"three": "3"}, "c/d", packed)
    assert "ContentEncoding" not in changed
    s3.put_object(Bucket=BUCKET, Key="zero", Body=b"")
    zero = s3.get_object(Bucket=BUCKET, Key="zero")
    assert (zero["ContentLength"], zero["Body"].read()) == (0, b"")
    assert zero["ETag"] == '"d41d8cd98f00b204e9800998ecf8427e"'


def test_conditions_hold_when_reading_and_writing(s3: Any) -> None:
    here = {"Bucket": BUCKET, "Key": "conditional"}
    first = s3.put_object(**here, Body=b"1", IfNoneMatch="*")["ETag"]
    assert failure(s3.put_object, **here, Body=b"2", IfNoneMatch="*") == ("PreconditionFailed", 412)
    second = s3.put_object(**here, Body=b"2", IfMatch=first)["ETag"]
    assert failure(s3.put_object, **here, Body=b"3", IfMatch=first) == ("PreconditionFailed", 412)
    assert s3.get_object(**here, IfMatch=second)["Body"].read() == b"2"
    assert failure(s3.get_object, **here, IfMatch=first) == ("PreconditionFailed", 412)
    assert failure(s3.get_object, **here, IfNoneMatch=second) == ("304", 304)
    assert failure(s3.put_object, Bucket=BUCKET, Key="none", Body=b"", IfMatch=first) == ("NoSuchKey", 404)

    def completed(key: str, **conditions: str) -> Any:
        upload = s3.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
        part = s3.upload_part(Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=1, Body=b"part")
        named = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        try:
            return s3.complete_multipart_upload(
                Bucket=BUCKET, Key=key, UploadId=upload, MultipartUpload=named, **conditions
            )
        except ClientError:
            s3.abort_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload)
            raise

    assert failure(completed, key="conditional", IfNoneMatch="*") == ("PreconditionFailed", 412)
    assert failure(completed, key="conditional", IfMatch=first) == ("PreconditionFailed", 412)
    third = completed("conditional", IfMatch=second)["ETag"]
    assert s3.get_object(**here, IfMatch=third)["Body"].read() == b"part"
    completed("conditional made", IfNoneMatch="*")
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET)


@pytest.mark.parametrize("kind", CHECKSUMS)
def test_checksums_are_checked_kept_and_told_when_of_any_kind(s3: Any, kind: str) -> None:
    field, digest = f"Checksum{kind}", CHECKSUMS[kind]
    for size in (0, 11, 3 * MIB):
        data = os.urandom(size)
        put = s3.put_object(Bucket=BUCKET, Key=kind, Body=data, **{field: digest(data)})
        got = s3.get_object(Bucket=BUCKET, Key=kind, ChecksumMode="ENABLED")
        assert (put[field], got[field], got["Body"].read()) == (digest(data), digest(data), data)
    assert failure(s3.put_object, Bucket=BUCKET, Key=kind, Body=b"x", **{field: digest(b"y")}) == ("BadDigest", 400)
    assert s3.head_object(Bucket=BUCKET, Key=kind)["ContentLength"] == 3 * MIB

    whole = kind.startswith("CRC")
    parts = [os.urandom(5 * MIB), os.urandom(5 * MIB + 1), os.urandom(100)]
    upload = s3.create_multipart_upload(
        Bucket=BUCKET, Key=kind, ChecksumAlgorithm=kind, ChecksumType="FULL_OBJECT" if whole else "COMPOSITE"
    )["UploadId"]
    named = {"Bucket": BUCKET, "Key": kind, "UploadId": upload}
    sent = [
        s3.upload_part(**named, PartNumber=number, Body=part, **{field: digest(part)})
        for number, part in enumerate(parts, 1)
    ]
    assert [one[field] for one in sent] == [digest(part) for part in parts]
    chosen = [{"PartNumber": n, "ETag": one["ETag"], field: one[field]} for n, one in enumerate(sent, 1)]
    done = s3.complete_multipart_upload(**named, MultipartUpload={"Parts": chosen})
    raw = b"".join(base64.b64decode(one[field]) for one in sent)
    wanted = digest(b"".join(parts)) if whole else f"{digest(raw)}-3"
    assert (done[field], done["ChecksumType"]) == (wanted, "FULL_OBJECT" if whole else "COMPOSITE")
    assert s3.head_object(Bucket=BUCKET, Key=kind, ChecksumMode="ENABLED")[field] == wanted


def test_uploads_are_listed_and_end_when_aborted(s3: Any) -> None:
    upload = s3.create_multipart_upload(Bucket=BUCKET, Key="given up")["UploadId"]
    named = {"Bucket": BUCKET, "Key": "given up", "UploadId": upload}
    s3.upload_part(**named, PartNumber=3, Body=b"three")
    assert [one["PartNumber"] for one in s3.list_parts(**named)["Parts"]] == [3]
    assert [one["Key"] for one in s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"]] == ["given up"]
    s3.abort_multipart_upload(**named)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET)
    assert failure(s3.upload_part, **named, PartNumber=1, Body=b"x") == ("NoSuchUpload", 404)


@pytest.mark.parametrize("trailer", ["", "x-amz-checksum-crc32c", "x-amz-checksum-sha256"])
@pytest.mark.parametrize("size", [0, 100, 3 * MIB + 17])
def test_signed_chunks_are_stored_unframed_when_with_and_without_trailers(
    clients: Clients, s3: Any, trailer: str, size: int
) -> None:
    data = os.urandom(size)
    status, body = streaming_put(clients.s3, BUCKET, "chunked", data, trailer=trailer)
    assert (status, body) == (200, b"")
    assert s3.get_object(Bucket=BUCKET, Key="chunked")["Body"].read() == data


def test_nothing_is_stored_when_a_signed_chunk_was_changed(clients: Clients, s3: Any) -> None:
    data = os.urandom(MIB)
    status, body = streaming_put(clients.s3, BUCKET, "tampered", data, trailer="x-amz-checksum-crc32c", tamper=True)
    assert status == 403
    assert b"SignatureDoesNotMatch" in body
    assert failure(s3.head_object, Bucket=BUCKET, Key="tampered") == ("404", 404)
