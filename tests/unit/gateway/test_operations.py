"""Operations over a socket: statuses, headers and documents, without a client library in between."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator

import pytest
from lxml import etree

from dwd.gateway.options import GatewayOptions
from dwd.runtime.clock import SystemClock
from tests.twins.gateway import Answer, Gateway, gateway
from tests.twins.memory_objects import MemoryObjects


@pytest.fixture
async def running() -> AsyncIterator[Gateway]:
    async with gateway(objects=MemoryObjects(SystemClock(), part_bytes_min=1)) as made:
        assert (await made.call("PUT", "/bkt")).status == 200
        yield made


def texts(answer: Answer, name: str) -> list[str]:
    tree = etree.fromstring(answer.body)
    return [one.text or "" for one in tree.iter() if etree.QName(one).localname == name]


def text(answer: Answer, name: str) -> str:
    return texts(answer, name)[0]


def located(region: str) -> bytes:
    inner = f"<LocationConstraint>{region}</LocationConstraint>"
    return f"<CreateBucketConfiguration>{inner}</CreateBucketConfiguration>".encode()


async def put(running: Gateway, *keys: str) -> None:
    for key in keys:
        assert (await running.call("PUT", f"/bkt/{key}", b"x")).status == 200


async def test_bucket_can_be_made_looked_at_and_removed(running: Gateway) -> None:
    again = await running.call("PUT", "/bkt")
    assert (again.status, text(again, "Code")) == (409, "BucketAlreadyOwnedByYou")
    assert texts(await running.call("GET", "/"), "Name") == ["bkt"]
    assert (await running.call("HEAD", "/bkt")).headers["x-amz-bucket-region"] == "us-east-1"
    assert (await running.call("HEAD", "/none-such")).status == 404
    await put(running, "k")
    assert text(await running.call("DELETE", "/bkt"), "Code") == "BucketNotEmpty"
    await running.call("DELETE", "/bkt/k")
    assert (await running.call("DELETE", "/bkt")).status == 204
    assert (await running.call("HEAD", "/bkt")).status == 404


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 200, ""),
        (b"<CreateBucketConfiguration/>", 200, ""),
        (located("us-east-1"), 200, ""),
        (located("eu-1"), 400, "IllegalLocationConstraintException"),
        (b"<Nonsense/>", 400, "MalformedXML"),
    ],
)  # fmt: skip
async def test_bucket_is_made_when_its_location_is_ours(running: Gateway, body: bytes, status: int, code: str) -> None:
    answer = await running.call("PUT", "/other", body)
    assert answer.status == status
    assert not code or text(answer, "Code") == code


@pytest.mark.parametrize(
    ("setting", "status", "name"),
    [
        ("location", 200, "LocationConstraint"), ("versioning", 200, "VersioningConfiguration"),
        ("acl", 200, "AccessControlPolicy"), ("ownershipControls", 200, "OwnershipControls"),
        ("requestPayment", 200, "RequestPaymentConfiguration"), ("logging", 200, "BucketLoggingStatus"),
        ("notification", 200, "NotificationConfiguration"), ("accelerate", 200, "AccelerateConfiguration"),
        ("publicAccessBlock", 200, "PublicAccessBlockConfiguration"), ("policy", 404, "NoSuchBucketPolicy"),
        ("policyStatus", 404, "NoSuchBucketPolicy"), ("cors", 404, "NoSuchCORSConfiguration"),
        ("lifecycle", 404, "NoSuchLifecycleConfiguration"), ("tagging", 404, "NoSuchTagSet"),
        ("encryption", 404, "ServerSideEncryptionConfigurationNotFoundError"),
        ("object-lock", 404, "ObjectLockConfigurationNotFoundError"),
        ("replication", 404, "ReplicationConfigurationNotFoundError"), ("website", 404, "NoSuchWebsiteConfiguration"),
        ("versions", 501, "NotImplemented"), ("intelligent-tiering", 501, "NotImplemented"),
    ],
)  # fmt: skip
async def test_setting_is_answered_as_aws_does_when_it_was_never_set(
    running: Gateway, setting: str, status: int, name: str
) -> None:
    answer = await running.call("GET", f"/bkt?{setting}")
    root = etree.QName(etree.fromstring(answer.body)).localname
    assert (answer.status, root if status == 200 else text(answer, "Code")) == (status, name)
    if status != 501:
        assert text(await running.call("GET", f"/none-such?{setting}"), "Code") == "NoSuchBucket"


async def test_object_comes_back_with_what_was_said_of_it(running: Gateway) -> None:
    headers = {"Content-Type": "text/x", "Cache-Control": "no-cache", "x-amz-meta-colour": "blue", "Expires": "0"}
    made = await running.call("PUT", "/bkt/k", b"hello world", headers)
    etag = f'"{hashlib.md5(b"hello world").hexdigest()}"'
    assert made.headers["etag"] == etag
    for method in ("GET", "HEAD"):
        answer = await running.call(method, "/bkt/k")
        assert answer.status == 200
        expected = {
            "etag": etag, "content-type": "text/x", "cache-control": "no-cache", "x-amz-meta-colour": "blue",
            "content-length": "11", "accept-ranges": "bytes", "expires": "0",
        }  # fmt: skip
        assert expected.items() <= answer.headers.items()
        assert "x-amz-checksum-crc32" not in answer.headers


@pytest.mark.parametrize(
    ("wanted", "status", "body", "content_range"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"), ("bytes=8-", 206, b"89", "bytes 8-9/10"),
        ("bytes=-3", 206, b"789", "bytes 7-9/10"), ("bytes=-30", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=5-500", 206, b"56789", "bytes 5-9/10"), ("bytes=0-1,3-4", 200, b"0123456789", None),
        ("bytes=10-", 416, None, "bytes */10"), ("bytes=-0", 416, None, "bytes */10"),
    ],
)  # fmt: skip
async def test_range_is_sent_when_asked_for(
    running: Gateway, wanted: str, status: int, body: bytes | None, content_range: str | None
) -> None:
    await running.call("PUT", "/bkt/k", b"0123456789")
    answer = await running.call("GET", "/bkt/k", headers={"Range": wanted})
    assert (answer.status, answer.headers.get("content-range")) == (status, content_range)
    assert body is None or answer.body == body
    head = await running.call("HEAD", "/bkt/k", headers={"Range": wanted})
    assert (head.status, head.headers.get("content-range")) == (status, content_range)
    assert body is None or head.headers["content-length"] == str(len(body))


async def test_range_of_an_empty_object_is_not_satisfiable(running: Gateway) -> None:
    await running.call("PUT", "/bkt/k")
    assert (await running.call("GET", "/bkt/k")).body == b""
    assert (await running.call("GET", "/bkt/k", headers={"Range": "bytes=0-"})).status == 416


async def test_if_range_sends_all_when_the_object_changed(running: Gateway) -> None:
    made = await running.call("PUT", "/bkt/k", b"0123456789")
    same = await running.call("GET", "/bkt/k", headers={"Range": "bytes=0-1", "If-Range": made.headers["etag"]})
    assert (same.status, same.body) == (206, b"01")
    other = await running.call("GET", "/bkt/k", headers={"Range": "bytes=0-1", "If-Range": '"other"'})
    assert (other.status, other.body) == (200, b"0123456789")


async def test_conditions_are_judged_before_ranges(running: Gateway) -> None:
    made = await running.call("PUT", "/bkt/k", b"0123456789")
    etag = made.headers["etag"]
    fresh = await running.call("GET", "/bkt/k", headers={"If-None-Match": etag, "Range": "bytes=50-"})
    assert (fresh.status, fresh.body, fresh.headers["etag"]) == (304, b"", etag)
    assert (await running.call("HEAD", "/bkt/k", headers={"If-None-Match": etag})).status == 304
    failed = await running.call("GET", "/bkt/k", headers={"If-Match": '"x"'})
    assert (failed.status, text(failed, "Code")) == (412, "PreconditionFailed")
    assert (await running.call("GET", "/bkt/k", headers={"If-Match": etag})).status == 200


async def test_put_is_refused_when_its_condition_fails(running: Gateway) -> None:
    first = await running.call("PUT", "/bkt/k", b"1", {"If-None-Match": "*"})
    assert first.status == 200
    assert (await running.call("PUT", "/bkt/k", b"2", {"If-None-Match": "*"})).status == 412
    assert (await running.call("PUT", "/bkt/k", b"2", {"If-Match": '"x"'})).status == 412
    assert (await running.call("PUT", "/bkt/k", b"2", {"If-Match": first.headers["etag"]})).status == 200
    assert (await running.call("GET", "/bkt/k")).body == b"2"


@pytest.mark.parametrize("size", [10, 200_000])
async def test_put_leaves_nothing_when_its_digest_is_wrong(running: Gateway, size: int) -> None:
    wrong = base64.b64encode(b"\0" * 16).decode()
    answer = await running.call("PUT", "/bkt/k", b"x" * size, {"Content-MD5": wrong})
    assert (answer.status, text(answer, "Code")) == (400, "BadDigest")
    assert (await running.call("GET", "/bkt/k")).status == 404


async def test_response_overrides_replace_headers(running: Gateway) -> None:
    await put(running, "k")
    answer = await running.call("GET", "/bkt/k?response-content-type=text%2Fy&response-cache-control=max-age%3D1")
    assert (answer.headers["content-type"], answer.headers["cache-control"]) == ("text/y", "max-age=1")
    injected = await running.call("GET", "/bkt/k?response-content-type=a%0D%0AX-Evil%3A1")
    assert injected.status == 400


async def test_checksum_is_told_when_asked_for_and_the_whole_object_is_sent(running: Gateway) -> None:
    digest = base64.b64encode(hashlib.sha256(b"hello").digest()).decode()
    await running.call("PUT", "/bkt/k", b"hello", {"x-amz-checksum-sha256": digest})
    mode = {"x-amz-checksum-mode": "ENABLED"}
    for method in ("GET", "HEAD"):
        assert (await running.call(method, "/bkt/k", headers=mode)).headers["x-amz-checksum-sha256"] == digest
    part = await running.call("GET", "/bkt/k", headers={**mode, "Range": "bytes=0-1"})
    assert "x-amz-checksum-sha256" not in part.headers


async def test_listing_pages_through_keys_and_prefixes(running: Gateway) -> None:
    await put(running, "a", "b/1", "b/2", "c", "d/x/1", "%C3%BC")
    first = await running.call("GET", "/bkt?list-type=2&delimiter=%2F&max-keys=2")
    assert (texts(first, "Key"), texts(first, "Prefix")[1:], text(first, "IsTruncated")) == (["a"], ["b/"], "true")
    token = text(first, "NextContinuationToken")
    rest = await running.call("GET", f"/bkt?list-type=2&delimiter=%2F&continuation-token={token.replace('=', '%3D')}")
    assert (texts(rest, "Key"), texts(rest, "Prefix")[1:]) == (["c", "ü"], ["d/"])
    assert (text(rest, "KeyCount"), text(rest, "IsTruncated")) == ("3", "false")
    old = await running.call("GET", "/bkt?delimiter=%2F&max-keys=2&marker=a&encoding-type=url")
    assert (texts(old, "Key"), text(old, "NextMarker")) == (["c"], "c")
    deep = await running.call("GET", "/bkt?list-type=2&prefix=d%2F&delimiter=x%2F")
    assert texts(deep, "Prefix") == ["d/", "d/x/"]
    none = await running.call("GET", "/bkt?list-type=2&max-keys=0")
    assert (texts(none, "Key"), text(none, "IsTruncated")) == ([], "false")
    assert texts(await running.call("GET", "/bkt?list-type=2&fetch-owner=true&start-after=d"), "ID") == [
        "alice",
        "alice",
    ]
    assert (await running.call("GET", "/bkt?list-type=2&max-keys=x")).status == 400
    assert (await running.call("GET", "/bkt?list-type=2&continuation-token=zzz")).status == 400


async def test_listing_carries_any_key_when_url_encoded(running: Gateway) -> None:
    await put(running, "%01a", "%3Cb%3E%26%22", "c%20d+e")
    answer = await running.call("GET", "/bkt?list-type=2&encoding-type=url")
    assert texts(answer, "Key") == ["%01a", "%3Cb%3E%26%22", "c%20d%2Be"]


async def test_batch_delete_tells_of_each_key(running: Gateway) -> None:
    await put(running, "a", "b")
    body = (
        "<Delete><Object><Key>a</Key></Object><Object><Key>none</Key></Object>"
        f"<Object><Key>b</Key><ETag>wrong</ETag></Object><Object><Key>{'k' * 1_025}</Key></Object></Delete>"
    ).encode()
    answer = await running.call("POST", "/bkt?delete", body)
    assert answer.status == 200
    assert texts(answer, "Code") == ["PreconditionFailed", "KeyTooLongError"]
    assert texts(answer, "Key")[:2] == ["a", "none"]
    quiet = await running.call(
        "POST", "/bkt?delete", b"<Delete><Quiet>true</Quiet><Object><Key>b</Key></Object></Delete>"
    )
    assert texts(quiet, "Key") == []
    assert texts(await running.call("GET", "/bkt"), "Key") == []


async def test_copy_keeps_or_replaces_metadata(running: Gateway) -> None:
    await running.call("PUT", "/bkt/k", b"hello", {"x-amz-meta-a": "1"})
    source = {"x-amz-copy-source": "/bkt/k"}
    answer = await running.call("PUT", "/bkt/c", headers=source)
    assert text(answer, "ETag") == f'"{hashlib.md5(b"hello").hexdigest()}"'
    assert (await running.call("HEAD", "/bkt/c")).headers["x-amz-meta-a"] == "1"
    replaced = {**source, "x-amz-metadata-directive": "REPLACE", "x-amz-meta-b": "2"}
    assert (await running.call("PUT", "/bkt/k", headers=replaced)).status == 200
    head = (await running.call("HEAD", "/bkt/k")).headers
    assert head["x-amz-meta-b"] == "2"
    assert "x-amz-meta-a" not in head
    assert text(await running.call("PUT", "/bkt/k", headers=source), "Code") == "InvalidRequest"
    failed = await running.call("PUT", "/bkt/d", headers={**source, "x-amz-copy-source-if-none-match": head["etag"]})
    assert failed.status == 412
    assert (await running.call("PUT", "/bkt/d", headers={"x-amz-copy-source": "/bkt/none"})).status == 404


async def start_upload(running: Gateway, **headers: str) -> str:
    return text(await running.call("POST", "/bkt/big?uploads", headers=headers), "UploadId")


def completion(*parts: tuple[int, str]) -> bytes:
    rows = "".join(f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in parts)
    return f"<CompleteMultipartUpload>{rows}</CompleteMultipartUpload>".encode()


async def test_parts_become_one_object_when_completed(running: Gateway) -> None:
    upload = await start_upload(running, **{"x-amz-meta-a": "1"})
    one = await running.call("PUT", f"/bkt/big?partNumber=1&uploadId={upload}", b"hello ")
    await running.call("PUT", "/bkt/src", b"__world__")
    copied = await running.call(
        "PUT", f"/bkt/big?partNumber=5&uploadId={upload}",
        headers={"x-amz-copy-source": "/bkt/src", "x-amz-copy-source-range": "bytes=2-6"},
    )  # fmt: skip
    assert texts(await running.call("GET", f"/bkt/big?uploadId={upload}"), "PartNumber") == ["1", "5"]
    assert texts(await running.call("GET", "/bkt?uploads"), "UploadId") == [upload]
    etags = [one.headers["etag"], text(copied, "ETag")]
    done = await running.call("POST", f"/bkt/big?uploadId={upload}", completion((1, etags[0]), (5, etags[1])))
    digest = hashlib.md5(hashlib.md5(b"hello ").digest() + hashlib.md5(b"world").digest()).hexdigest()
    assert (done.status, text(done, "ETag")) == (200, f'"{digest}-2"')
    answer = await running.call("GET", "/bkt/big")
    assert (answer.body, answer.headers["x-amz-meta-a"]) == (b"hello world", "1")
    part = await running.call("GET", "/bkt/big?partNumber=2")
    assert (part.status, part.body, part.headers["x-amz-mp-parts-count"]) == (206, b"world", "2")
    assert part.headers["content-range"] == "bytes 6-10/11"
    assert (await running.call("HEAD", "/bkt/big?partNumber=1")).headers["content-length"] == "6"
    assert (await running.call("GET", "/bkt/big?partNumber=3")).status == 416
    assert text(await running.call("GET", f"/bkt/big?uploadId={upload}"), "Code") == "NoSuchUpload"


async def test_completion_is_refused_when_parts_are_wrong(running: Gateway) -> None:
    upload = await start_upload(running)
    target = f"/bkt/big?uploadId={upload}"
    etag = (await running.call("PUT", f"{target}&partNumber=1", b"a")).headers["etag"]
    await running.call("PUT", f"{target}&partNumber=2", b"a")
    for body, code in (
        (completion((1, "0" * 32)), "InvalidPart"),
        (completion((3, etag)), "InvalidPart"),
        (completion((2, etag), (1, etag)), "InvalidPartOrder"),
        (b"", "MalformedXML"),
    ):
        answer = await running.call("POST", target, body)
        assert (answer.status, text(answer, "Code")) == (400, code)
    for number in ("0", "10001", "x", ""):
        assert text(await running.call("PUT", f"{target}&partNumber={number}", b"a"), "Code") == "InvalidArgument"
    assert (await running.call("DELETE", target)).status == 204
    assert text(await running.call("DELETE", target), "Code") == "NoSuchUpload"
    assert text(await running.call("PUT", f"{target}&partNumber=1", b"a"), "Code") == "NoSuchUpload"


async def test_bucket_in_the_host_is_served_when_a_domain_is_configured() -> None:
    async with gateway(GatewayOptions(port=0, domains=("s3.test",))) as running:
        await running.call("PUT", "/bkt")
        await running.send(running.signed("PUT", "/k", b"x", host="bkt.s3.test:8080") + b"x")
        assert (await running.receive()).status == 200
        assert (await running.call("GET", "/bkt/k")).body == b"x"
