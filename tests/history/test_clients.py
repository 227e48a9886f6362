"""The client tells the truth: what it sent once is not sent twice, what was promised is not taken for more."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from tests.history.clients import S3, Answer, judge
from tests.history.record import Outcome, Verb


async def test_request_is_sent_once_when_the_connection_breaks() -> None:
    requests = 0

    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        _ = await reader.readuntil(b"\r\n\r\n")
        requests += 1
        writer.close()

    server = await asyncio.start_server(break_off, "127.0.0.1", 0)
    endpoint = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    s3 = S3({"access_key": "a", "secret_key": "s", "region": "r"}, {"n1": endpoint})
    try:
        with pytest.raises(aiohttp.ClientError):
            _ = await s3.ask("n1", "PUT", "/b/k", body=b"x")
        assert requests == 1
    finally:
        await s3.close()
        server.close()


@pytest.mark.parametrize(
    ("verb", "status", "outcome"),
    [
        (Verb.PUT, 200, Outcome.OK),
        (Verb.DELETE, 204, Outcome.OK),
        (Verb.GET, 404, Outcome.OK),
        (Verb.PUT_IF_NONE, 412, Outcome.FAILED),
        (Verb.PUT_IF_MATCH, 404, Outcome.FAILED),
        (Verb.PUT, 503, Outcome.REFUSED),
        (Verb.PUT, 500, Outcome.UNKNOWN),
        (Verb.PUT, 404, Outcome.UNKNOWN),
        (Verb.PUT_IF_NONE, 409, Outcome.UNKNOWN),
    ],
)
def test_outcome_is_what_the_status_promises_when_answered(verb: Verb, status: int, outcome: Outcome) -> None:
    assert judge(verb, Answer(status=status, body=b"", etag="")) is outcome
