"""Clients that store, replace and delete until told to stop, and write down what they were told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import boto3
import botocore.exceptions
from botocore.config import Config

from tests.power_loss.ledger import Content, Ledger
from tests.power_loss.machine import CLOCK, Loss
from tests.raft_harness.seeded import SeededRng

BUCKET = "power"
WRITERS = 4
KEYS_PER_WRITER = 40
KIB, MIB = 1024, 1024 * 1024
PART_BYTES = 5 * MIB
READ_SECONDS = 20.0
WRONG_MAX = 5
"""Found, the rest is not looked at."""
HOPELESS_SECONDS = 1.0
"""Once something is lost already."""
T = TypeVar("T")
_FAILURES = (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, OSError)


def clients(s3: dict[str, Any]) -> list[Any]:
    """One an endpoint, for all threads. They never try again: an acknowledgement belongs to one request."""
    session = boto3.session.Session()
    config = Config(
        retries={"total_max_attempts": 1}, connect_timeout=3, read_timeout=20, s3={"addressing_style": "path"}
    )
    return [
        session.client(
            "s3", endpoint_url=url, aws_access_key_id=s3["access_key"], aws_secret_access_key=s3["secret_key"],
            region_name=s3["region"], config=config,
        )
        for url in s3["endpoints"]
    ]  # fmt: skip


class Writers:
    """Threads that write until `stop`. One key has one writer."""

    def __init__(self, endpoints: Sequence[Any], ledger: Ledger, seed: int) -> None:
        self._endpoints, self._ledger = endpoints, ledger
        self.began = threading.Event()
        """Set with the first acknowledgement."""
        self._stopping = threading.Event()
        self.troubles: list[str] = []
        self._threads = [
            threading.Thread(target=self._write, args=(number, SeededRng(seed * 1_000 + number)), daemon=True)
            for number in range(WRITERS)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Call before the power is cut to tell the threads that errors are to come."""
        self._stopping.set()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(30)

    def _write(self, number: int, rng: SeededRng) -> None:
        s3 = self._endpoints[number % len(self._endpoints)]
        while not self._stopping.is_set():
            key = f"writer-{number}/key-{rng.below(KEYS_PER_WRITER):03d}"
            if self._ledger.usable(key):
                try:
                    self._step(s3, key, rng)
                    self.began.set()
                except _FAILURES:
                    self._stopping.wait(0.05)

    def _step(self, s3: Any, key: str, rng: SeededRng) -> None:
        """One operation; an error leaves its outcome open."""
        held, dice = self._ledger.holds(key), rng.below(100)
        if dice < 15:
            self._ledger.begin(key, None)
            s3.delete_object(Bucket=BUCKET, Key=key)
            self._ledger.acknowledge(key)
        elif dice < 18:
            self._multipart(s3, key, Content(seed=rng.bits(48), size=PART_BYTES + rng.below(MIB)))
        elif dice < 30:
            self._conditional(s3, key, held, Content(seed=rng.bits(48), size=_size(rng)))
        else:
            content = Content(seed=rng.bits(48), size=_size(rng))
            body = content.bytes()
            self._ledger.begin(key, content)
            s3.put_object(Bucket=BUCKET, Key=key, Body=body)
            self._ledger.acknowledge(key)

    def _multipart(self, s3: Any, key: str, content: Content) -> None:
        body = content.bytes()
        upload = s3.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
        parts = []
        for number, start in enumerate(range(0, len(body), PART_BYTES), 1):
            answer = s3.upload_part(
                Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=number, Body=body[start : start + PART_BYTES]
            )
            parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        self._ledger.begin(key, content)
        s3.complete_multipart_upload(Bucket=BUCKET, Key=key, UploadId=upload, MultipartUpload={"Parts": parts})
        self._ledger.acknowledge(key)

    def _conditional(self, s3: Any, key: str, held: Content | None, content: Content) -> None:
        """Create only if there is nothing: must succeed exactly when there is nothing."""
        body = content.bytes()
        self._ledger.begin(key, content)
        try:
            s3.put_object(Bucket=BUCKET, Key=key, Body=body, IfNoneMatch="*")
        except botocore.exceptions.ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 412:
                raise
            self._ledger.refuse(key)
            if held is None:
                self.troubles.append(f"{key}: refused as if it existed")
        else:
            self._ledger.acknowledge(key)
            if held is not None:
                self.troubles.append(f"{key}: created although it existed")


def check(endpoints: Sequence[Any], ledger: Ledger, seed: int) -> None:
    """Read every key back and compare with what was promised, then the listing. Raises Loss with all that is wrong."""
    rng = SeededRng(seed)
    seen: dict[str, int] = {}
    wrong: list[str] = []
    keys = [(key, rng.below(64)) for key in ledger.names()]

    def look(item: tuple[str, int]) -> None:
        key, endpoint = item
        if len(wrong) >= WRONG_MAX:
            return
        try:
            seconds = HOPELESS_SECONDS if wrong else READ_SECONDS
            body = _patiently(lambda: _read(endpoints[endpoint % len(endpoints)], key), seconds)
        except _FAILURES as error:
            wrong.append(f"{key}: cannot be read: {error}")
            return
        problem = ledger.judge(key, body)
        if problem is not None:
            wrong.append(problem)
        elif body is not None:
            seen[key] = len(body)

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(look, keys))
    if wrong:
        raise Loss(f"{len(wrong)} of {len(keys)} keys are wrong:\n" + "\n".join(wrong[:20]))
    listed = _patiently(lambda: _list(endpoints[seed % len(endpoints)]), READ_SECONDS)
    if listed != seen:
        differing = sorted(set(listed.items()) ^ set(seen.items()))
        raise Loss(f"the listing differs from what can be read: {differing[:10]}")


def _read(s3: Any, key: str) -> bytes | None:
    try:
        body: bytes = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    except s3.exceptions.NoSuchKey:
        return None
    return body


def _list(s3: Any) -> dict[str, int]:
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET)
    return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", ())}


def _patiently(work: Callable[[], T], seconds: float) -> T:
    deadline = CLOCK.monotonic() + seconds
    while True:
        try:
            return work()
        except _FAILURES as error:
            answer = error.response if isinstance(error, botocore.exceptions.ClientError) else {}
            status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 503)
            if CLOCK.monotonic() > deadline or status < 500:
                raise
            time.sleep(0.1)


def _size(rng: SeededRng) -> int:
    """Inline mostly, small blocks often, several blocks now and then."""
    dice = rng.below(100)
    if dice < 60:
        return 1 + rng.below(16 * KIB)
    if dice < 92:
        return 16 * KIB + rng.below(240 * KIB)
    return 4 * MIB - KIB + rng.below(4 * MIB)
