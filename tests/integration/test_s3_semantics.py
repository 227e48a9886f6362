"""What clients rely on across nodes: every endpoint is the same store, races have one winner, nothing is left over."""

from __future__ import annotations

import datetime as dt
import hashlib
import http.client
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import botocore.auth
import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests.integration.clients import Anywhere, bucket, client_at, content
from tests.integration.harness import Cluster, clock, until

MIB = 1 << 20
PART = 5 * MIB


def everywhere(cluster: Cluster) -> list[Any]:
    s3 = cluster.document["s3"]
    return [client_at(s3, url) for url in s3["endpoints"]]


def code_of(failed: pytest.ExceptionInfo[ClientError]) -> str:
    return str(failed.value.response["Error"]["Code"])


def test_write_is_read_at_every_endpoint_when_it_was_acknowledged_at_another(cluster: Cluster) -> None:
    clients = everywhere(cluster)
    with bucket(cluster, "read-your-writes") as name:
        for n in range(36):
            writer, reader = clients[n % 6], clients[(n * 5 + 1) % 6]
            body = content(f"v{n}", 2_000 if n % 2 else 200_000)
            writer.put_object(Bucket=name, Key="k", Body=body)
            assert reader.get_object(Bucket=name, Key="k")["Body"].read() == body
            assert reader.list_objects_v2(Bucket=name)["Contents"][0]["Size"] == len(body)
        clients[3].delete_object(Bucket=name, Key="k")
        for reader in clients:
            with pytest.raises(ClientError) as failed:
                reader.get_object(Bucket=name, Key="k")
            assert code_of(failed) == "NoSuchKey"


@pytest.mark.parametrize("size", [10, 200_000])
def test_exactly_one_client_wins_when_many_create_the_same_key(cluster: Cluster, size: int) -> None:
    clients = everywhere(cluster) * 2
    with bucket(cluster, f"race-{size}") as name, ThreadPoolExecutor(len(clients)) as pool:
        for turn in range(4):

            def create(n: int, key: str = f"k{turn}") -> str:
                try:
                    clients[n].put_object(Bucket=name, Key=key, Body=content(f"{n}", size), IfNoneMatch="*")
                except ClientError as error:
                    return str(error.response["Error"]["Code"])
                return f"won by {n}"

            results = list(pool.map(create, range(len(clients))))
            won = [r for r in results if r.startswith("won")]
            assert len(won) == 1, results
            assert set(results) - set(won) <= {"PreconditionFailed", "ConditionalRequestConflict"}
            winner = won[0].removeprefix("won by ")
            assert clients[0].get_object(Bucket=name, Key=f"k{turn}")["Body"].read() == content(winner, size)


def test_one_update_wins_each_round_when_clients_replace_what_they_read(cluster: Cluster) -> None:
    clients = everywhere(cluster)
    with bucket(cluster, "if-match") as name, ThreadPoolExecutor(6) as pool:
        etag = clients[0].put_object(Bucket=name, Key="k", Body=b"0")["ETag"]
        for turn in range(1, 4):

            def replace(n: int, seen: str = etag, body: bytes = b"%d" % turn) -> str:
                try:
                    return str(clients[n % 6].put_object(Bucket=name, Key="k", Body=body * n, IfMatch=seen)["ETag"])
                except ClientError as error:
                    return str(error.response["Error"]["Code"])

            results = list(pool.map(replace, range(2, 8)))
            won = [r for r in results if r.startswith('"')]
            assert len(won) == 1, results
            assert set(results) - set(won) <= {"PreconditionFailed", "ConditionalRequestConflict"}
            etag = won[0]
            assert clients[5].head_object(Bucket=name, Key="k")["ETag"] == etag


def test_listing_is_complete_and_in_order_when_it_has_many_pages(cluster: Cluster) -> None:
    clients = everywhere(cluster)
    with bucket(cluster, "listing") as name:
        keys = sorted(f"d{n % 7}/e{n % 3}/k{n:04d}-\u00fc" for n in range(1_250))
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: clients[n % 6].put_object(Bucket=name, Key=keys[n], Body=b"x"), range(len(keys))))
        found: list[str] = []
        token: dict[str, str] = {}
        page, pages = {"IsTruncated": True}, 0
        while page["IsTruncated"]:
            page = clients[pages % 6].list_objects_v2(Bucket=name, MaxKeys=400, **token)
            found += [entry["Key"] for entry in page["Contents"]]
            token, pages = {"ContinuationToken": page.get("NextContinuationToken", "")}, pages + 1
        assert (found, pages) == (sorted(keys, key=str.encode), 4)
        top = clients[2].list_objects_v2(Bucket=name, Delimiter="/")
        assert [p["Prefix"] for p in top["CommonPrefixes"]] == [f"d{n}/" for n in range(7)]
        inner = clients[4].list_objects(Bucket=name, Prefix="d3/", Delimiter="/")
        assert [p["Prefix"] for p in inner["CommonPrefixes"]] == ["d3/e0/", "d3/e1/", "d3/e2/"]


def test_bucket_is_empty_when_it_is_made_again_at_another_endpoint(cluster: Cluster) -> None:
    clients = everywhere(cluster)
    for n in range(4):
        clients[n].create_bucket(Bucket="again")
        assert "Contents" not in clients[n + 1].list_objects_v2(Bucket="again")
        clients[n + 1].put_object(Bucket="again", Key=f"k{n}", Body=b"x")
        with pytest.raises(ClientError) as failed:
            clients[n + 2].delete_bucket(Bucket="again")
        assert code_of(failed) == "BucketNotEmpty"
        clients[n + 2].delete_object(Bucket="again", Key=f"k{n}")
        clients[n + 2].delete_bucket(Bucket="again")
        for client in clients:
            with pytest.raises(ClientError) as failed:
                client.put_object(Bucket="again", Key="late", Body=b"x")
            assert code_of(failed) == "NoSuchBucket"


def test_request_is_refused_when_its_clock_is_twenty_minutes_off(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3 = cluster.document["s3"]

    then = dt.datetime.fromtimestamp(clock.unix_ms() / 1000 - 20 * 60, dt.UTC)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda **_: then.replace(tzinfo=None))
    request = AWSRequest(method="GET", url=s3["endpoint"] + "/", headers={"Host": urlsplit(s3["endpoint"]).netloc})
    S3SigV4Auth(Credentials(s3["access_key"], s3["secret_key"]), "s3", s3["region"]).add_auth(request)
    status, body = raw(s3["endpoint"], "GET", "/", dict(request.headers))
    assert status == 403, body
    assert b"<Code>RequestTimeTooSkewed</Code>" in body


def raw(endpoint: str, method: str, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(urlsplit(endpoint).netloc, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def held(cluster: Cluster) -> int:
    return cluster.fragments_held()


@pytest.mark.campaign
def test_nothing_is_left_behind_when_uploads_stay_half_finished(cluster: Cluster) -> None:
    """Aborted, completed without some parts, a part sent twice: only what the object names stays."""
    before = held(cluster)
    clients = everywhere(cluster)
    with bucket(cluster, "half") as name:
        part = content("part", PART)
        aborted = clients[0].create_multipart_upload(Bucket=name, Key="aborted")["UploadId"]
        for number in (1, 2):
            clients[number].upload_part(Bucket=name, Key="aborted", UploadId=aborted, PartNumber=number, Body=part)
        clients[3].abort_multipart_upload(Bucket=name, Key="aborted", UploadId=aborted)
        kept = clients[0].create_multipart_upload(Bucket=name, Key="kept")["UploadId"]
        tags = {}
        for number in (1, 2, 3, 1):
            tags[number] = clients[number].upload_part(
                Bucket=name, Key="kept", UploadId=kept, PartNumber=number, Body=part
            )["ETag"]
        clients[4].complete_multipart_upload(
            Bucket=name,
            Key="kept",
            UploadId=kept,
            MultipartUpload={"Parts": [{"PartNumber": n, "ETag": tags[n]} for n in (1, 3)]},
        )
        digest = hashlib.sha256(clients[5].get_object(Bucket=name, Key="kept")["Body"].read()).digest()
        assert digest == hashlib.sha256(part * 2).digest()
        with pytest.raises(ClientError) as failed:
            clients[1].list_parts(Bucket=name, Key="aborted", UploadId=aborted)
        assert code_of(failed) == "NoSuchUpload"
        until("only the kept object's fragments are left", lambda: held(cluster) == before + 2 * 2 * 6)
        forgotten = clients[0].create_multipart_upload(Bucket=name, Key="forgotten")["UploadId"]
        clients[0].upload_part(Bucket=name, Key="forgotten", UploadId=forgotten, PartNumber=1, Body=part)
        clients[0].abort_multipart_upload(Bucket=name, Key="forgotten", UploadId=forgotten)
    until("all fragments are collected", lambda: held(cluster) == before, seconds=90)


def test_nothing_is_left_behind_when_clients_vanish_in_mid_body(cluster: Cluster) -> None:
    before = held(cluster)
    s3 = cluster.document["s3"]
    with bucket(cluster, "vanish") as name:
        for n, endpoint in enumerate(s3["endpoints"]):
            vanish(s3, endpoint, f"/{name}/gone{n}", announced=12 * MIB, sent=9 * MIB)
        assert "Contents" not in Anywhere(cluster).call(lambda c: c.list_objects_v2(Bucket=name))
        until("their fragments are collected", lambda: held(cluster) == before, seconds=90)


def vanish(s3: dict[str, Any], endpoint: str, path: str, *, announced: int, sent: int) -> None:
    """Announce a body, send a part of it, and cut the connection as a crash would."""
    host = urlsplit(endpoint).netloc
    request = AWSRequest(method="PUT", url=endpoint + path, headers={"Host": host})
    request.context["payload_signing_enabled"] = False
    request.headers["X-Amz-Content-SHA256"] = "UNSIGNED-PAYLOAD"
    S3SigV4Auth(Credentials(s3["access_key"], s3["secret_key"]), "s3", s3["region"]).add_auth(request)
    head = f"PUT {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in request.headers.items())
    address, _, port = host.rpartition(":")
    with socket.create_connection((address, int(port)), timeout=20) as connection:
        connection.sendall(f"{head}Content-Length: {announced}\r\n\r\n".encode())
        connection.sendall(content("vanish", sent))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
