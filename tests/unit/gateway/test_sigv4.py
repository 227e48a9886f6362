"""Signatures, with botocore's signer as an independent oracle."""

from __future__ import annotations

import datetime as dt
from typing import Any
from unittest.mock import patch
from urllib.parse import quote, urlsplit

import botocore.auth
import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from dwd.base.errors import DwError
from dwd.gateway.core.head import RequestHead, parse_head
from dwd.gateway.core.sigv4 import SigningKeys, canonical_tail, read_claim, signing_key, string_to_sign, verify

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
NOW = dt.datetime(2013, 5, 24, 0, 0, 0, tzinfo=dt.UTC)
NOW_SECONDS = int(NOW.timestamp())
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def signed_head(
    method: str, target: str, headers: dict[str, str], *, presign: int = 0, region: str = "us-east-1"
) -> RequestHead:
    request = AWSRequest(method=method, url=f"http://bucket.example:9000{target}", headers=headers, data=b"")
    keys = Credentials("AKIDEXAMPLE", SECRET)
    with patch.object(botocore.auth, "get_current_datetime", lambda *_a, **_k: NOW.replace(tzinfo=None)):
        signer: Any = (
            S3SigV4QueryAuth(keys, "s3", region, expires=presign) if presign else S3SigV4Auth(keys, "s3", region)
        )
        signer.add_auth(request)
    parts = urlsplit(request.url)
    sent = {"host": "bucket.example:9000"} | {name.lower(): value for name, value in request.headers.items()}
    return parse_head(method, parts.path + (f"?{parts.query}" if parts.query else ""), sent)


def check(head: RequestHead, *, now: int = NOW_SECONDS, region: str = "us-east-1", secret: str = SECRET) -> None:
    claim = read_claim(head, now_seconds=now, region=region)
    verify(head, claim, signing_key(secret, claim.date, claim.region))


def code_of(call: Any) -> str:
    with pytest.raises(DwError) as caught:
        call()
    return caught.value.code


def test_signing_key_is_the_published_one_when_given_the_example() -> None:
    # AWS "Signature Version 4 signing process": the example of GET Object, end to end.
    headers = {
        "host": "examplebucket.s3.amazonaws.com",
        "range": "bytes=0-9",
        "x-amz-content-sha256": EMPTY,
        "x-amz-date": "20130524T000000Z",
        "authorization": "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request,"
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,"
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    }
    head = parse_head("GET", "/test.txt", headers)
    claim = read_claim(head, now_seconds=NOW_SECONDS, region="us-east-1")
    canonical = f"GET\n/test.txt\n{canonical_tail(head, claim)}"
    assert canonical == (
        "GET\n/test.txt\n\nhost:examplebucket.s3.amazonaws.com\nrange:bytes=0-9\n"
        f"x-amz-content-sha256:{EMPTY}\nx-amz-date:20130524T000000Z\n\n"
        f"host;range;x-amz-content-sha256;x-amz-date\n{EMPTY}"
    )
    assert string_to_sign(canonical, claim) == (
        "AWS4-HMAC-SHA256\n20130524T000000Z\n20130524/us-east-1/s3/aws4_request\n"
        "7344ae5b7ee6c3e7e6b0fe0640412a37625d1fbfff95c48bbb2dc43964946972"
    )
    check(head)


KEYS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(key=KEYS, query=st.lists(st.tuples(WORDS.filter(bool), WORDS), max_size=4), presign=st.sampled_from([0, 60]))
def test_signature_holds_when_botocore_made_it(key: str, query: list[tuple[str, str]], presign: int) -> None:
    pairs = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in query)
    target = f"/bkt/{quote(key, safe='/~')}" + (f"?{pairs}" if pairs else "")
    head = signed_head("GET", target, {"x-amz-meta-a": "  two   words "}, presign=presign)
    assert head.key == key
    check(head)


@given(key=KEYS)
def test_signature_fails_when_the_key_is_another(key: str) -> None:
    head = signed_head("GET", f"/bkt/{quote(key, safe='/~')}", {})
    other = parse_head("GET", head.raw_path + "x", head.headers)
    assert code_of(lambda: check(other)) == "s3.signature_does_not_match"


@pytest.mark.parametrize("presign", [0, 60])
def test_signature_fails_when_anything_signed_changes(presign: int) -> None:
    head = signed_head("PUT", "/bkt/key?partNumber=1", {"x-amz-meta-a": "1"}, presign=presign)
    check(head)
    target = f"{head.raw_path}?{head.raw_query}"
    for changed in (
        parse_head("GET", target, head.headers),
        parse_head("PUT", target.replace("partNumber=1", "partNumber=2"), head.headers),
        parse_head("PUT", target, {**head.headers, "x-amz-meta-a": "2"}),
        parse_head("PUT", target, {**head.headers, "host": "other"}),
    ):
        assert code_of(lambda changed=changed: check(changed)) == "s3.signature_does_not_match"
    assert code_of(lambda: check(head, secret="wrong")) == "s3.signature_does_not_match"


def test_signature_holds_when_a_client_signs_bare_characters() -> None:
    head = signed_head("GET", "/bkt/a(1)!.txt", {})
    assert head.raw_path == "/bkt/a(1)!.txt"
    check(head)


def test_header_that_is_not_signed_is_refused_when_it_is_amz() -> None:
    head = signed_head("GET", "/bkt/key", {})
    smuggled = parse_head("GET", head.raw_path, {**head.headers, "x-amz-copy-source": "secret/key"})
    assert code_of(lambda: check(smuggled)) == "s3.access_denied"


@pytest.mark.parametrize("offset", [-901, 901])
def test_request_is_refused_when_its_clock_is_off_by_more_than_a_quarter_hour(offset: int) -> None:
    head = signed_head("GET", "/bkt/key", {})
    assert code_of(lambda: check(head, now=NOW_SECONDS + offset)) == "s3.request_time_too_skewed"
    check(head, now=NOW_SECONDS + offset // 901 * 900)


def test_presigned_url_is_refused_when_expired_or_from_the_future() -> None:
    head = signed_head("GET", "/bkt/key", {}, presign=60)
    check(head, now=NOW_SECONDS + 60)
    assert code_of(lambda: check(head, now=NOW_SECONDS + 61)) == "s3.access_denied"
    assert code_of(lambda: check(head, now=NOW_SECONDS - 901)) == "s3.access_denied"


def test_presigned_url_is_refused_when_it_asks_for_more_than_a_week() -> None:
    head = signed_head("GET", "/bkt/key", {}, presign=604_801)
    assert code_of(lambda: check(head)) == "s3.query_malformed"


def test_region_is_named_when_the_wrong_one_was_signed_for() -> None:
    head = signed_head("GET", "/bkt/key", {}, region="eu-central-9")
    with pytest.raises(DwError) as caught:
        check(head)
    assert (caught.value.code, caught.value.fields["region"]) == ("s3.authorization_malformed", "us-east-1")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"authorization": None}, "s3.access_denied"),
        ({"authorization": "AWS AKID:c2ln"}, "s3.invalid_request"),
        ({"authorization": "Basic YTpi"}, "s3.invalid_request"),
        ({"authorization": "AWS4-HMAC-SHA256"}, "s3.authorization_malformed"),
        ({"authorization": "AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=" + "0" * 64},
         "s3.authorization_malformed"),
        ({"authorization": "AWS4-HMAC-SHA256 Credential=a/20130524/us-east-1/s3/aws4_request, "
          "SignedHeaders=host, Signature=zz"}, "s3.authorization_malformed"),
        ({"authorization": "AWS4-HMAC-SHA256 Credential=a/20130524/us-east-1/s3/aws4_request, "
          "SignedHeaders=range, Signature=" + "0" * 64}, "s3.authorization_malformed"),
        ({"authorization": "AWS4-HMAC-SHA256 Credential=a/20130525/us-east-1/s3/aws4_request, "
          "SignedHeaders=host, Signature=" + "0" * 64}, "s3.authorization_malformed"),
        ({"x-amz-content-sha256": None}, "s3.invalid_request"),
        ({"x-amz-date": "20130524"}, "s3.authorization_malformed"),
        ({"x-amz-date": None}, "s3.access_denied"),
    ],
)  # fmt: skip
def test_request_is_refused_when_its_authentication_is_malformed(change: dict[str, str | None], code: str) -> None:
    head = signed_head("GET", "/bkt/key", {})
    headers = {name: value for name, value in {**head.headers, **change}.items() if value is not None}
    assert code_of(lambda: check(parse_head("GET", head.raw_path, headers))) == code


def test_request_is_refused_when_signed_in_header_and_query() -> None:
    head = signed_head("GET", "/bkt/key", {})
    both = parse_head("GET", f"{head.raw_path}?X-Amz-Signature=1", head.headers)
    assert code_of(lambda: check(both)) == "s3.invalid_argument"


def test_signing_keys_are_kept_within_bounds_when_many_are_used() -> None:
    keys = SigningKeys(entries_max=2)
    for day in ("20240101", "20240102", "20240103", "20240101"):
        assert keys.key("s", day, "r") == signing_key("s", day, "r")
    assert len(keys._keys) == 2


@given(text=st.text(max_size=200))
def test_authorization_never_crashes_when_it_is_garbage(text: str) -> None:
    head = parse_head(
        "GET", "/b/k", {"host": "h", "authorization": f"AWS4-HMAC-SHA256 {text}", "x-amz-content-sha256": EMPTY}
    )
    code_of(lambda: check(head))
