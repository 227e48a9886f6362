"""Presigned URLs of version 2, as boto3 makes them by default."""

from __future__ import annotations

from urllib.parse import urlsplit

import boto3
import pytest

from dwd.base.errors import DwError
from dwd.gateway.core.head import RequestHead, parse_head
from dwd.gateway.core.sigv2 import is_query_signed, read_query_claim, verify_query

SECRET = "secret"


def presigned(operation: str, **parameters: object) -> RequestHead:
    client = boto3.client(
        "s3",
        endpoint_url="http://store:9",
        region_name="us-east-1",
        aws_access_key_id="AKID",
        aws_secret_access_key=SECRET,
    )
    parts = urlsplit(client.generate_presigned_url(operation, Params={"Bucket": "bkt", "Key": "a b/ü+x", **parameters}))
    method = "PUT" if operation in {"put_object", "upload_part"} else "GET"
    return parse_head(method, f"{parts.path}?{parts.query}", {"host": "store:9"})


@pytest.mark.parametrize(
    "head",
    [
        presigned("get_object"),
        presigned("get_object", ResponseContentType="text/x; charset=ü"),
        presigned("put_object"),
        presigned("upload_part", UploadId="u/1", PartNumber=3),
    ],
)
def test_url_is_accepted_when_boto3_made_it(head: RequestHead) -> None:
    assert is_query_signed(head)
    verify_query(head, read_query_claim(head, now_seconds=0), SECRET)


def test_url_is_refused_when_changed_expired_or_signed_by_another() -> None:
    head = presigned("get_object", ResponseContentType="text/plain")
    claim = read_query_claim(head, now_seconds=0)
    changed = [
        parse_head("PUT", f"{head.raw_path}?{head.raw_query}", head.headers),
        parse_head("GET", f"{head.raw_path}x?{head.raw_query}", head.headers),
        parse_head("GET", f"{head.raw_path}?{head.raw_query}&uploadId=1", head.headers),
        parse_head("GET", f"{head.raw_path}?{head.raw_query}", {**head.headers, "x-amz-copy-source": "a/b"}),
    ]
    for other in changed:
        with pytest.raises(DwError, match="does not match"):
            verify_query(other, claim, SECRET)
    with pytest.raises(DwError, match="does not match"):
        verify_query(head, claim, "other")
    with pytest.raises(DwError, match="expired"):
        read_query_claim(head, now_seconds=int(claim.expires) + 1)
