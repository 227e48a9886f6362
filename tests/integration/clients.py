"""S3 clients of a real cluster: one for each node's endpoint, one that moves on when its endpoint fails, and a load
that remembers what was acknowledged.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.integration.harness import Cluster, clock

T = TypeVar("T")
RETRY_SECONDS = 60.0
PAUSE_SECONDS = 0.03
"""Between a client's requests: what a test writes it must read back too."""
SIZES = (3_000, 40_000, 300_000)
"""Inline in the metadata, copies, erasure-coded fragments."""


def content(key: str, size: int) -> bytes:
    """The bytes that belong to a key: the same each time they are asked for."""
    return hashlib.shake_128(key.encode()).digest(size)


def client_at(s3: dict[str, Any], endpoint: str, *, read_seconds: float = 15.0) -> Any:
    """boto3 without retries of its own."""
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=s3["access_key"],
        aws_secret_access_key=s3["secret_key"],
        region_name=s3["region"],
        config=Config(
            retries={"total_max_attempts": 1},
            connect_timeout=2,
            read_timeout=read_seconds,
            s3={"addressing_style": "path"},
        ),
    )


class Anywhere:
    """A client that tries the next endpoint when one fails. Use one for each thread."""

    def __init__(self, cluster: Cluster, first: int = 0) -> None:
        self._s3 = cluster.document["s3"]
        self._clients: dict[str, Any] = {}
        self._urls: list[str] = self._s3["endpoints"]
        self._at = first % len(self._urls)

    def call(self, work: Callable[[Any], T]) -> T:
        """`work` with some client until it succeeds: for requests that may be repeated."""
        deadline = clock.monotonic() + RETRY_SECONDS
        while True:
            try:
                return work(self._client())
            except (BotoCoreError, ClientError, OSError) as error:
                if clock.monotonic() > deadline or not _elsewhere(error):
                    raise
                self._at = (self._at + 1) % len(self._urls)

    def put(self, bucket: str, key: str, body: bytes) -> None:
        self.call(lambda s3: s3.put_object(Bucket=bucket, Key=key, Body=body))

    def get(self, bucket: str, key: str) -> bytes:
        return self.call(lambda s3: bytes(s3.get_object(Bucket=bucket, Key=key)["Body"].read()))

    def _client(self) -> Any:
        url = self._urls[self._at]
        if url not in self._clients:
            self._clients[url] = client_at(self._s3, url)
        return self._clients[url]


def _elsewhere(error: Exception) -> bool:
    """Whether another endpoint may do better; a refusal is one everywhere."""
    if isinstance(error, ClientError):
        return int(error.response["ResponseMetadata"].get("HTTPStatusCode", 0)) >= 500
    return True


class Load:
    """Writers and readers at work while a test does harm. `check` proves that nothing acknowledged is lost."""

    def __init__(self, cluster: Cluster, bucket: str, *, threads: int = 2) -> None:
        self.cluster = cluster
        self.bucket = bucket
        self.acknowledged: dict[str, int] = {}
        self.wrong: list[str] = []
        self.failed: list[str] = []
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._work, args=(n,), daemon=True) for n in range(threads)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=RETRY_SECONDS + 30)

    def done(self) -> int:
        with self._lock:
            return len(self.acknowledged)

    def more(self, count: int) -> Callable[[], bool]:
        """For `until`: as many writes acknowledged since now, none gone wrong."""
        before = self.done()

        def look() -> bool:
            assert not self.wrong, self.wrong
            return self.done() >= before + count

        return look

    def check(self) -> None:
        """Every acknowledged object is there, byte for byte, and no request failed for good."""
        assert not any(t.is_alive() for t in self._threads), "a client still waits"
        assert not self.failed, self.failed[:5]
        assert not self.wrong, self.wrong[:5]
        assert self.acknowledged
        verify(self.cluster, self.bucket, self.acknowledged)

    def _work(self, number: int) -> None:
        client, count = Anywhere(self.cluster, number), 0
        try:
            while not self._stop.wait(PAUSE_SECONDS):
                key = f"w{number}/{count:05d}"
                size = SIZES[count % len(SIZES)]
                client.put(self.bucket, key, content(key, size))
                with self._lock:
                    self.acknowledged[key] = size
                count += 1
                back = f"w{number}/{count // 2:05d}"
                if back in self.acknowledged and client.get(self.bucket, back) != content(
                    back, self.acknowledged[back]
                ):
                    self.wrong.append(back)
        except Exception as error:  # noqa: BLE001 - told by check()
            self.failed.append(repr(error))


def verify(cluster: Cluster, bucket: str, expected: dict[str, int]) -> None:
    """Read every object back, each from the next node's endpoint in turn."""
    clients = [Anywhere(cluster, n) for n in range(len(cluster.document["s3"]["endpoints"]))]
    wrong = [
        key
        for n, (key, size) in enumerate(expected.items())
        if clients[n % len(clients)].get(bucket, key) != content(key, size)
    ]
    assert not wrong, wrong[:5]


@contextmanager
def bucket(cluster: Cluster, name: str) -> Iterator[str]:
    """A bucket, emptied and removed in the end."""
    client = Anywhere(cluster)
    client.call(lambda s3: s3.create_bucket(Bucket=name))
    yield name
    remove(client, name)


def remove(client: Anywhere, name: str) -> None:
    while True:
        page = client.call(lambda s3: s3.list_objects_v2(Bucket=name))
        keys = [{"Key": entry["Key"]} for entry in page.get("Contents", ())]
        if not keys:
            break
        answer = client.call(lambda s3, keys=keys: s3.delete_objects(Bucket=name, Delete={"Objects": keys}))
        assert not answer.get("Errors"), answer
    client.call(lambda s3: s3.delete_bucket(Bucket=name))
