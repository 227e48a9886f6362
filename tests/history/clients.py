"""Clients that put, get, delete and list through all nodes, and write down what they did and what they were told.

Keys come in generations: each generation's keys are used together for a while and then only read now and then. That
keeps the history of one key short, however long a run is, and what was written long ago is read long after.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random  # noqa: TID251 - contents, not decisions of the daemon
from typing import Any
from urllib.parse import quote

import aiohttp
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from lxml import etree

from tests.history.record import NOTHING, History, Operation, Outcome, Verb
from tests.history.world import CLOCK
from tests.raft_harness.seeded import SeededRng

BUCKET = "history"
KEYS_PER_GENERATION = 8
OPERATIONS_PER_GENERATION = 1_200
TIMEOUT_SECONDS = 8.0
"""After that a client gives up waiting; the cluster may still do what was asked."""
REST_SECONDS = 0.05
"""After an error."""
KIB = 1024
_XML = "{http://s3.amazonaws.com/doc/2006-03-01/}"
_NO_EFFECT = {400, 403, 405, 503, 507}
"""Statuses with which the cluster promises that nothing was changed."""


@dataclass(slots=True)
class Keys:
    """Which keys are in use, and the last value anybody saw of each."""

    made: int = 0
    operations: int = 0
    values: dict[str, str] = field(default_factory=dict)

    def pick(self, rng: SeededRng) -> str:
        self.operations += 1
        return f"{self.prefix()}k{rng.below(KEYS_PER_GENERATION)}"

    def prefix(self) -> str:
        self.made = self.operations // OPERATIONS_PER_GENERATION
        return f"g{self.made:03d}/"

    def old(self, rng: SeededRng) -> str | None:
        """A key of an earlier generation."""
        return f"g{rng.below(self.made):03d}/k{rng.below(KEYS_PER_GENERATION)}" if self.made else None

    def prefixes(self) -> list[str]:
        """Of all generations so far."""
        return [f"g{made:03d}/" for made in range(self.operations // OPERATIONS_PER_GENERATION + 1)]

    def all(self) -> list[str]:
        return [f"{prefix}k{n}" for prefix in self.prefixes() for n in range(KEYS_PER_GENERATION)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    body: bytes
    etag: str


class S3:
    """One connection pool; requests are sent once, whatever comes of them."""

    def __init__(self, s3: dict[str, Any], endpoints: dict[str, str]) -> None:
        self.endpoints = endpoints
        self._signer = S3SigV4Auth(Credentials(s3["access_key"], s3["secret_key"]), "s3", s3["region"])
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS, sock_connect=2.0),
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
        )

        # Seen: a put that took effect was reported as "connection refused", for aiohttp had silently sent it again.
        self._session._retry_connection = False

    async def close(self) -> None:
        await self._session.close()

    async def ask(
        self, node: str, method: str, path: str, *, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> Answer:
        """Raises aiohttp.ClientError, TimeoutError."""
        url = self.endpoints[node] + path
        request = AWSRequest(method=method, url=url, data=body, headers=headers or {})
        self._signer.add_auth(request)
        async with self._session.request(
            method, url, data=body or None, headers=dict(request.headers.items())
        ) as answer:
            return Answer(
                status=answer.status, body=await answer.read(), etag=answer.headers.get("ETag", "").strip('"')
            )


class Client:
    """Does one thing after the other. After an unknown outcome it goes on as another process: the old one is still
    waiting, as far as anybody knows.
    """

    def __init__(self, number: int, seed: int, s3: S3, keys: Keys, history: History, began: float) -> None:
        self._number = number
        self._life = 0
        self._rng = SeededRng(seed * 1_000 + number)
        self._s3 = s3
        self._keys = keys
        self._history = history
        self._began = began
        self._written = 0

    @property
    def _name(self) -> str:
        return f"c{self._number}.{self._life}"

    async def run(self, stopping: Callable[[], bool]) -> None:
        while not stopping():
            operation = await self._one()
            self._take(operation)
            if operation.outcome in {Outcome.REFUSED, Outcome.UNKNOWN}:
                await asyncio.sleep(self._rng.uniform(REST_SECONDS, 4 * REST_SECONDS))

    async def read(self, key: str, *, nodes: Sequence[str] = ()) -> Operation:
        """One get, written down."""
        operation = await self._get(self._rng.choose(nodes or list(self._s3.endpoints)), key)
        self._take(operation)
        return operation

    async def list(self, prefix: str) -> Operation:
        """One list of a generation, written down."""
        operation = await self._list(self._rng.choose(list(self._s3.endpoints)), prefix)
        self._take(operation)
        return operation

    def _take(self, operation: Operation) -> None:
        self._history.add(operation)
        if operation.outcome is Outcome.UNKNOWN:
            self._life += 1
        if operation.outcome is Outcome.OK and operation.verb is not Verb.LIST:
            self._keys.values[operation.key] = operation.value

    async def _one(self) -> Operation:
        rng, keys = self._rng, self._keys
        node, key, dice = rng.choose(list(self._s3.endpoints)), keys.pick(rng), rng.below(100)
        if dice < 26:
            return await self._put(node, key)
        if dice < 38:
            expected = keys.values.get(key, NOTHING)
            return await self._put(node, key, match=expected) if expected else await self._put(node, key, none=True)
        if dice < 46:
            return await self._put(node, key, none=True)
        if dice < 56:
            return await self._delete(node, key)
        if dice < 62:
            return await self._list(node, keys.prefix())
        if dice < 66:
            return await self._get(node, keys.old(rng) or key)
        return await self._get(node, key)

    async def _put(self, node: str, key: str, *, match: str = NOTHING, none: bool = False) -> Operation:
        self._written += 1
        body = content(f"{key} {self._name} {self._written}", size_of(self._rng))
        headers = {"If-Match": f'"{match}"'} if match else {"If-None-Match": "*"} if none else {}
        verb = Verb.PUT_IF_MATCH if match else Verb.PUT_IF_NONE if none else Verb.PUT
        value = hashlib.md5(body).hexdigest()
        return await self._do(verb, node, key, "PUT", body=body, headers=headers, value=value, expected=match)

    async def _delete(self, node: str, key: str) -> Operation:
        return await self._do(Verb.DELETE, node, key, "DELETE")

    async def _get(self, node: str, key: str) -> Operation:
        return await self._do(Verb.GET, node, key, "GET")

    async def _list(self, node: str, prefix: str) -> Operation:
        could = tuple(f"{prefix}k{n}" for n in range(KEYS_PER_GENERATION))
        return await self._do(Verb.LIST, node, prefix, "GET", keys=could)

    async def _do(
        self, verb: Verb, node: str, key: str, method: str, *, body: bytes = b"", headers: dict[str, str] | None = None,
        value: str = NOTHING, expected: str = NOTHING, keys: tuple[str, ...] = (),
    ) -> Operation:  # fmt: skip
        listing = verb is Verb.LIST
        path = f"/{BUCKET}?list-type=2&prefix={quote(key, safe='')}" if listing else f"/{BUCKET}/{key}"
        start = CLOCK.monotonic() - self._began
        shown: dict[str, str] = {}
        try:
            answer = await self._s3.ask(node, method, path, body=body, headers=headers)
            outcome, said = judge(verb, answer), ""
            if outcome is Outcome.OK and verb is Verb.GET:
                value = NOTHING if answer.status == 404 else hashlib.md5(answer.body).hexdigest()
            if outcome is Outcome.OK and listing:
                shown = parse_list(answer.body)
            if outcome in {Outcome.REFUSED, Outcome.UNKNOWN}:
                said = f"{answer.status} {answer.body[:200].decode(errors='replace')}"
        except aiohttp.ClientConnectorError as error:
            outcome, said = Outcome.REFUSED, repr(error)[:200]  # nothing was sent
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            outcome, said = Outcome.UNKNOWN, repr(error)[:200]
        return Operation(
            process=self._name, verb=verb, key=key, node=node, start=start, end=CLOCK.monotonic() - self._began,
            outcome=outcome, value=value, expected=expected, keys=keys, shown=shown, said=said,
        )  # fmt: skip


def judge(verb: Verb, answer: Answer) -> Outcome:
    """What the status promises. Anything it does not speak of is unknown."""
    status = answer.status
    if status in {200, 204} or (status == 404 and verb is Verb.GET):
        return Outcome.OK
    if status == 412 or (status == 404 and verb is Verb.PUT_IF_MATCH):
        return Outcome.FAILED
    return Outcome.REFUSED if status in _NO_EFFECT else Outcome.UNKNOWN


def parse_list(body: bytes) -> dict[str, str]:
    """Values by key. Raises AssertionError for a page that is none: keys twice, out of order, or not all of them."""
    root = etree.fromstring(body)
    assert root.findtext(f"{_XML}IsTruncated") == "false", "the list is longer than a page"
    entries = [
        (str(entry.findtext(f"{_XML}Key")), str(entry.findtext(f"{_XML}ETag")).strip('"'))
        for entry in root.findall(f"{_XML}Contents")
    ]
    keys = [key for key, _ in entries]
    assert keys == sorted(set(keys)), f"a list out of order: {keys}"
    return dict(entries)


def content(name: str, size: int) -> bytes:
    """Unlike any other."""
    head = name.encode() + b"\n"
    return head + Random(name).randbytes(max(0, size - len(head)))


def size_of(rng: SeededRng) -> int:
    """Inline mostly, blocks often."""
    dice = rng.below(100)
    if dice < 70:
        return 64 + rng.below(2 * KIB)
    if dice < 85:
        return 2 * KIB + rng.below(14 * KIB)
    return 17 * KIB + rng.below(120 * KIB)
