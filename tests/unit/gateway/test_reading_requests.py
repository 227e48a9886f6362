"""Heads, names, routes, conditions, ranges, headers, documents: each from text to values or a named refusal."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwd.base.errors import DwError
from dwd.gateway.core.batch_delete import read_batch
from dwd.gateway.core.conditions import Verdict, read_conditions, write_precondition
from dwd.gateway.core.copying import read_copy_source, replaces_metadata
from dwd.gateway.core.dates import basic, http_date, iso_date, parse_basic, parse_http_date
from dwd.gateway.core.documents import decode_token, encode_token
from dwd.gateway.core.head import encode, parse_head
from dwd.gateway.core.object_headers import check_offered, read_object_headers
from dwd.gateway.core.ranges import parse_copy_range, parse_range
from dwd.gateway.core.routing import Operation, route
from dwd.gateway.core.uploads import read_completion, upload_checksum
from dwd.gateway.core.xml_read import parse_document
from dwd.gateway.core.xml_write import escape
from dwd.objects.core.names import check_bucket_name, check_key
from dwd.objects.core.ranges import RangeRequest
from dwd.objects.ports import ChecksumKind, CompletedPart, ObjectHeaders, ObjectInfo, Precondition


def code_of(call: Any, *arguments: Any) -> str:
    with pytest.raises(DwError) as caught:
        call(*arguments)
    return caught.value.code


@pytest.mark.parametrize(
    ("target", "host", "bucket", "key"),
    [
        ("/", "h", "", ""),
        ("/b", "h", "b", ""),
        ("/b/", "h", "b", ""),
        ("/b/k/../l//m", "h", "b", "k/../l//m"),
        ("/b/a%2Fb%20c+d", "h", "b", "a/b c+d"),
        ("/b/%C3%BC", "h", "b", "ü"),
        ("http://h/b/k?x=1", "h", "b", "k"),
        ("http://h", "h", "", ""),
        ("http://h?uploads", "h", "", ""),
        ("/k/l", "b.s3.test:7480", "b", "k/l"),
        ("/", "my.bucket.s3.test", "my.bucket", ""),
        ("/b/k", "s3.test", "b", "k"),
        ("/b/k", "evils3.test", "b", "k"),
    ],
)
def test_bucket_and_key_are_found_when_in_path_or_host(target: str, host: str, bucket: str, key: str) -> None:
    head = parse_head("GET", target, {"host": host}, ("s3.test",))
    assert (head.bucket, head.key) == (bucket, key)


@pytest.mark.parametrize("target", ["/b/%ff", "/b/%c3", "*", "ftp://x/y", "b/k", "/b?prefix=%ff"])
def test_target_is_refused_when_it_is_not_a_utf8_path(target: str) -> None:
    assert code_of(parse_head, "GET", target, {}) == "s3.invalid_uri"


def test_too_many_parameters_are_refused() -> None:
    assert code_of(parse_head, "GET", "/b?" + "&".join(f"p{number}=1" for number in range(200)), {}) == "s3.invalid_uri"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_key_comes_back_when_encoded(key: str) -> None:
    assert parse_head("GET", "/b/" + encode(key, keep="/"), {}).key == key


@pytest.mark.parametrize("name", ["abc", "a.b-c9", "0ab", "a" * 63])
def test_bucket_name_is_taken_when_s3_allows_it(name: str) -> None:
    check_bucket_name(name)


@pytest.mark.parametrize(
    "name",
    ["ab", "a" * 64, "Abc", "a_b", "-abc", "abc-", ".abc", "a..b", "192.168.0.1", "xn--a", "a-s3alias", "abc\n"],
)  # fmt: skip
def test_bucket_name_is_refused_when_s3_does(name: str) -> None:
    assert code_of(check_bucket_name, name) == "objects.invalid_bucket_name"


def test_key_is_measured_in_utf8_bytes() -> None:
    check_key("k" * 1_024)
    check_key("ü" * 512)
    assert code_of(check_key, "k" * 1_025) == "objects.key_too_long"
    assert code_of(check_key, "ü" * 512 + "k") == "objects.key_too_long"
    assert code_of(check_key, "a\0b") == "objects.invalid_key"
    assert code_of(check_key, "\udcff") == "objects.invalid_key"


@pytest.mark.parametrize(
    ("method", "target", "operation"),
    [
        ("GET", "/", Operation.LIST_BUCKETS),
        ("GET", "/b", Operation.LIST_OBJECTS),
        ("GET", "/b?prefix=&delimiter=/", Operation.LIST_OBJECTS),
        ("GET", "/b?list-type=2&prefix=", Operation.LIST_OBJECTS_V2),
        ("GET", "/b?uploads", Operation.LIST_UPLOADS),
        ("GET", "/b?location", Operation.GET_BUCKET_SETTING),
        ("POST", "/b?delete", Operation.DELETE_OBJECTS),
        ("PUT", "/b", Operation.CREATE_BUCKET),
        ("PUT", "/b/k?x-id=PutObject", Operation.PUT_OBJECT),
        ("GET", "/b/k?versionId=null", Operation.GET_OBJECT),
        ("GET", "/b/k?partNumber=2", Operation.GET_OBJECT),
        ("PUT", "/b/k?partNumber=2&uploadId=u", Operation.UPLOAD_PART),
        ("PUT", "/b/k?uploadId=u&partNumber=2", Operation.UPLOAD_PART),
        ("POST", "/b/k?uploads", Operation.CREATE_UPLOAD),
        ("POST", "/b/k?uploadId=u", Operation.COMPLETE_UPLOAD),
        ("DELETE", "/b/k?uploadId=u", Operation.ABORT_UPLOAD),
        ("GET", "/b/k?uploadId=u&max-parts=1", Operation.LIST_PARTS),
    ],
)
def test_operation_is_found_when_offered(method: str, target: str, operation: Operation) -> None:
    assert route(parse_head(method, target, {})) is operation


def test_operation_is_a_copy_when_a_source_is_named() -> None:
    source = {"x-amz-copy-source": "a/b"}
    assert route(parse_head("PUT", "/b/k", source)) is Operation.COPY_OBJECT
    assert route(parse_head("PUT", "/b/k?partNumber=1&uploadId=u", source)) is Operation.UPLOAD_PART_COPY


@pytest.mark.parametrize(
    ("method", "target", "code"),
    [
        ("PUT", "/b?policy", "s3.not_implemented"),
        ("PUT", "/b/k?acl", "s3.not_implemented"),
        ("GET", "/b?analytics", "s3.not_implemented"),
        ("GET", "/b?versions", "s3.not_implemented"),
        ("GET", "/b?something-new", "s3.not_implemented"),
        ("DELETE", "/b?lifecycle", "s3.not_implemented"),
        ("PUT", "/b/k?partNumber=1", "s3.not_implemented"),
        ("GET", "/b/k?attributes", "s3.not_implemented"),
        ("POST", "/b/k?restore", "s3.not_implemented"),
        ("GET", "/b/k?versionId=abc", "s3.invalid_argument"),
        ("POST", "/b/k", "s3.method_not_allowed"),
        ("POST", "/", "s3.method_not_allowed"),
        ("PATCH", "/b/k", "s3.method_not_allowed"),
        ("OPTIONS", "/b/k", "s3.method_not_allowed"),
    ],
)
def test_request_is_refused_when_it_asks_for_what_is_not_offered(method: str, target: str, code: str) -> None:
    assert code_of(lambda: route(parse_head(method, target, {}))) == code


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (None, None),
        ("bytes=0-9", RangeRequest(first=0, last=9)),
        ("bytes=5-", RangeRequest(first=5)),
        ("bytes=-5", RangeRequest(suffix=5)),
        ("Bytes = 1-1", RangeRequest(first=1, last=1)),
        *((text, None) for text in ("bytes=0-1,3-4", "bytes=9-5", "bytes=-", "bytes=a-b", "items=0-1", "0-1")),
    ],
)  # fmt: skip
def test_range_is_the_whole_object_when_it_is_not_one_good_range(text: str | None, wanted: RangeRequest | None) -> None:
    assert parse_range(text) == wanted


def test_copy_range_is_refused_when_it_is_not_exact() -> None:
    assert parse_copy_range("bytes=0-9") == RangeRequest(first=0, last=9)
    for text in ("bytes=0-", "bytes=-9", "0-9", "bytes=9-0"):
        assert code_of(parse_copy_range, text) == "s3.invalid_argument"


INFO = ObjectInfo(
    bucket="b", key="k", size=1, etag="abc", modified_unix_ms=1_700_000_000_900, headers=ObjectHeaders(), checksum=None,
    part_count=0,
)  # fmt: skip
AT, BEFORE, AFTER = http_date(1_700_000_000), http_date(1_699_999_999), http_date(1_700_000_001)
FAILED = "objects.precondition_failed"


@pytest.mark.parametrize(
    ("headers", "verdict"),
    [
        ({}, Verdict.PROCEED),
        ({"if-match": '"abc"'}, Verdict.PROCEED),
        ({"if-match": "abc"}, Verdict.PROCEED),
        ({"if-match": '"x", "abc"'}, Verdict.PROCEED),
        ({"if-match": "*"}, Verdict.PROCEED),
        ({"if-match": '"x"'}, FAILED),
        ({"if-none-match": '"abc"'}, Verdict.NOT_MODIFIED),
        ({"if-none-match": 'W/"abc"'}, Verdict.NOT_MODIFIED),
        ({"if-none-match": '"x"'}, Verdict.PROCEED),
        ({"if-modified-since": AT}, Verdict.NOT_MODIFIED),
        ({"if-modified-since": AFTER}, Verdict.NOT_MODIFIED),
        ({"if-modified-since": BEFORE}, Verdict.PROCEED),
        ({"if-unmodified-since": AT}, Verdict.PROCEED),
        ({"if-unmodified-since": BEFORE}, FAILED),
        ({"if-modified-since": "garbage"}, Verdict.PROCEED),
        ({"if-match": '"abc"', "if-unmodified-since": BEFORE}, Verdict.PROCEED),
        ({"if-none-match": '"x"', "if-modified-since": AFTER}, Verdict.PROCEED),
        ({"if-none-match": '"abc"', "if-match": '"x"'}, FAILED),
    ],
)
def test_read_is_judged_as_http_says_when_conditional(headers: dict[str, str], verdict: Verdict | str) -> None:
    conditions = read_conditions(headers)
    if isinstance(verdict, str):
        assert code_of(conditions.judge, INFO) == verdict
    else:
        assert conditions.judge(INFO) is verdict


def test_write_condition_is_read_when_s3_offers_it() -> None:
    assert write_precondition({}) == Precondition()
    assert write_precondition({"if-none-match": "*"}) == Precondition(if_none_match=("*",))
    assert write_precondition({"if-match": '"abc"'}) == Precondition(if_match=("abc",))
    assert code_of(write_precondition, {"if-none-match": '"abc"'}) == "s3.not_implemented"
    assert code_of(write_precondition, {"if-none-match": "*", "if-match": "a"}) == "s3.not_implemented"


def test_object_headers_are_kept_when_the_client_sends_them() -> None:
    headers = {
        "content-type": "text/plain", "cache-control": "no-cache", "content-encoding": "aws-chunked, gzip",
        "x-amz-meta-a": " b ", "x-amz-meta-ü": "ü", "x-amz-date": "no", "expires": "later",
    }  # fmt: skip
    assert read_object_headers(headers) == ObjectHeaders(
        content_type="text/plain",
        system={"cache-control": "no-cache", "content-encoding": "gzip", "expires": "later"},
        user={"a": "b", "ü": "ü"},
    )
    assert "content-encoding" not in read_object_headers({"content-encoding": "aws-chunked"}).system
    assert code_of(read_object_headers, {"x-amz-meta-a": "b" * 2_048}) == "s3.metadata_too_large"
    assert code_of(read_object_headers, {"x-amz-meta-a": "b\x01"}) == "s3.invalid_argument"
    assert code_of(read_object_headers, {"x-amz-meta-a": "\udcff"}) == "s3.invalid_argument"


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("x-amz-server-side-encryption-context", "e30=", "s3.not_implemented"),
        ("x-amz-object-lock-mode", "GOVERNANCE", "s3.not_implemented"),
        ("x-amz-tagging", "a=b", "s3.not_implemented"),
        ("x-amz-bucket-object-lock-enabled", "true", "s3.not_implemented"),
        ("x-amz-storage-class", "GLACIER", "s3.invalid_storage_class"),
        ("x-amz-acl", "public-read", "s3.acl_not_supported"),
        ("x-amz-grant-read", "id=1", "s3.acl_not_supported"),
    ],
)
def test_header_is_refused_when_ignoring_it_would_be_a_lie(name: str, value: str, code: str) -> None:
    assert code_of(check_offered, {name: value}) == code


def test_header_is_accepted_when_it_asks_for_what_is_so_anyway() -> None:
    check_offered({
        "x-amz-acl": "private", "x-amz-storage-class": "STANDARD", "x-amz-tagging-directive": "COPY",
        "x-amz-bucket-object-lock-enabled": "false", "x-amz-meta-x": "y",
    })  # fmt: skip


def test_copy_source_is_read_when_encoded_or_bare() -> None:
    for text in ("bkt/a%20b", "/bkt/a%20b", "bkt/a b", "bkt/a%20b?versionId=null", "/bkt%2Fa%20b"):
        source = read_copy_source({"x-amz-copy-source": text, "x-amz-copy-source-if-match": '"e"'}, secure=True)
        assert (source.bucket, source.key, source.precondition.if_match) == ("bkt", "a b", ("e",))
    for text in ("", "bkt", "bkt/", "/", "bkt/k?versionId=x"):
        assert code_of(partial(read_copy_source, secure=True), {"x-amz-copy-source": text}) == "s3.invalid_argument"
    assert not replaces_metadata({})
    assert replaces_metadata({"x-amz-metadata-directive": "REPLACE"})
    assert code_of(replaces_metadata, {"x-amz-metadata-directive": "MERGE"}) == "s3.invalid_argument"


XMLNS = b' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'
    b"<Delete><Object><Key>&b;</Key></Object></Delete>"
)
OUTSIDE = b'<!DOCTYPE l [<!ENTITY x SYSTEM "file:///etc/passwd">]><Delete><Object><Key>&x;</Key></Object></Delete>'


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-7"])
def test_a_document_type_is_refused_when_it_hides_in_another_encoding(encoding: str) -> None:
    text = f'<?xml version="1.0" encoding="{encoding}"?>'
    text += "<!DOCTYPE Delete [<!ENTITY a 'k'>]><Delete><Object><Key>k</Key></Object></Delete>"
    data = text.encode(encoding)
    if encoding == "utf-7":
        data = text.replace("<!", "+ADwAIQ-").encode()
    assert code_of(read_batch, data) == "s3.malformed_xml"


@pytest.mark.parametrize(
    "data",
    [
        b"", b"x", b"<Delete>", b"<Other></Other>", BOMB, OUTSIDE, b"<Delete><Object></Object></Delete>",
        b"<Delete></Delete>", b"<Delete>" + b"<Object><Key>k</Key></Object>" * 1_001 + b"</Delete>",
        b"<Delete>" + b"<a>" * 20 + b"</a>" * 20 + b"</Delete>", b"<Delete>&undefined;</Delete>", b"\xff\xfe<Delete/>",
        b"<Delete>" + b"<a/>" * 100_001 + b"</Delete>",
    ],
)  # fmt: skip
def test_batch_is_malformed_when_it_is_not_what_s3_defines(data: bytes) -> None:
    assert code_of(read_batch, data) == "s3.malformed_xml"


@pytest.mark.parametrize("namespace", [b"", XMLNS])
def test_batch_is_read_when_with_or_without_namespace(namespace: bytes) -> None:
    batch = read_batch(
        b"<Delete" + namespace + b"><Quiet>true</Quiet><Object><Key>a &amp; b</Key></Object>"
        b'<Object><Key>c</Key><ETag>"e"</ETag></Object></Delete>'
    )
    assert batch.quiet
    assert [(one.key, one.etag) for one in batch.items] == [("a & b", ""), ("c", "e")]


def test_completion_is_read_when_well_formed() -> None:
    data = (
        b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>&quot;e1&quot;</ETag></Part>"
        b"<Part><ETag>e2</ETag><PartNumber> 7 </PartNumber><ChecksumCRC32>AAAA</ChecksumCRC32></Part>"
        b"</CompleteMultipartUpload>"
    )
    parts = read_completion(data)
    assert parts[0] == CompletedPart(number=1, etag="e1")
    assert (parts[1].number, parts[1].etag) == (7, "e2")
    assert parts[1].checksum is not None
    assert parts[1].checksum.kind is ChecksumKind.CRC32
    for part in (b"", b"<Part><PartNumber>1</PartNumber></Part>"):
        wrapped = b"<CompleteMultipartUpload>" + part + b"</CompleteMultipartUpload>"
        assert code_of(read_completion, wrapped) == "s3.malformed_xml"
    zero = b"<CompleteMultipartUpload><Part><PartNumber>0</PartNumber><ETag>e</ETag></Part></CompleteMultipartUpload>"
    assert code_of(read_completion, zero) == "s3.invalid_argument"


def test_upload_checksum_is_read_when_kind_and_type_agree() -> None:
    def asked(kind: str, how: str = "") -> tuple[ChecksumKind | None, bool]:
        return upload_checksum({"x-amz-checksum-algorithm": kind} | ({"x-amz-checksum-type": how} if how else {}))

    assert upload_checksum({}) == (None, True)
    assert asked("CRC32") == (ChecksumKind.CRC32, True)
    assert asked("crc32", "FULL_OBJECT") == (ChecksumKind.CRC32, False)
    assert asked("CRC64NVME") == (ChecksumKind.CRC64NVME, False)
    for kind, how in (("CRC64NVME", "COMPOSITE"), ("SHA256", "FULL_OBJECT"), ("MD5", ""), ("CRC32", "HALF")):
        assert code_of(asked, kind, how) == "s3.invalid_request"


@given(st.binary(max_size=200))
def test_documents_never_crash_when_they_are_garbage(data: bytes) -> None:
    assert code_of(parse_document, data, "Delete") == "s3.malformed_xml"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=50))
def test_token_comes_back_when_encoded(after: str) -> None:
    assert decode_token(encode_token(after)) == after


@given(st.text(max_size=40).filter(lambda text: not text.startswith("M")))
def test_token_is_refused_when_we_did_not_make_it(token: str) -> None:
    assert code_of(decode_token, token) == "s3.invalid_argument"


@given(st.integers(0, 4_000_000_000))
def test_dates_come_back_when_written(seconds: int) -> None:
    assert parse_http_date(http_date(seconds)) == seconds
    assert parse_basic(basic(seconds)) == seconds


def test_dates_look_as_aws_writes_them() -> None:
    assert http_date(1_256_769_120) == "Wed, 28 Oct 2009 22:32:00 GMT"
    assert iso_date(1_256_769_120_007) == "2009-10-28T22:32:00.007Z"
    assert parse_basic("20091328T000000Z") is None


def test_text_is_escaped_when_it_holds_markup_or_control_characters() -> None:
    assert escape("a<b>&\"'\r\n\x01ü") == "a&lt;b&gt;&amp;&quot;'&#xd;&#xa;&#x1;ü"
