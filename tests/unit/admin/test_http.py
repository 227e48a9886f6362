"""The admin listener: what probes and scrapers get."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import aiohttp
import pytest

from dwd.admin.http import AdminHttp
from dwd.base.errors import Unavailable
from dwd.observability.export import CONTENT_TYPE
from dwd.observability.health import Health


class Listener:
    """`reasons`: what is wrong with the process, and with its readiness."""

    def __init__(self) -> None:
        self.reasons = {"loop": "", "leader": ""}
        self.port = 0
        health = Health()
        health.add_live("loop", lambda: self.reasons["loop"])
        health.add_ready("leader", lambda: self.reasons["leader"])
        self.http = AdminHttp("127.0.0.1:0", health)

    async def get(self, path: str) -> tuple[int, str, str]:
        """Status, content type, text."""
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.port}{path}") as answer:
            return answer.status, answer.headers["Content-Type"], await answer.text()


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    made = Listener()
    made.port = await made.http.start()
    yield made
    await made.http.stop()


@pytest.mark.parametrize(
    ("wrong", "live", "ready"),
    [({}, 200, 200), ({"leader": "nobody leads"}, 200, 503), ({"loop": "it hangs"}, 503, 503)],
)
async def test_probe_fails_with_its_reasons_when_a_check_does(
    listener: Listener, wrong: dict[str, str], live: int, ready: int
) -> None:
    listener.reasons |= wrong
    for path, expected in (("/health/live", live), ("/health/ready", ready)):
        status, kind, text = await listener.get(path)
        reasons = [] if expected == 200 else [f"{name}: {why}" for name, why in wrong.items()]
        assert (status, kind.partition(";")[0]) == (expected, "application/json")
        assert json.loads(text) == {"status": "pass" if expected == 200 else "fail", "reasons": reasons}


async def test_metrics_are_prometheus_text(listener: Listener) -> None:
    status, kind, _ = await listener.get("/metrics")
    assert (status, kind) == (200, CONTENT_TYPE)


async def test_other_paths_are_not_found(listener: Listener) -> None:
    assert (await listener.get("/"))[0] == 404


async def test_listening_is_refused_with_the_address_when_it_is_taken(listener: Listener) -> None:
    second = AdminHttp(f"127.0.0.1:{listener.port}", Health())
    with pytest.raises(Unavailable, match=f"127.0.0.1:{listener.port}") as caught:
        await second.start()
    assert caught.value.code == "admin.cannot_listen"
    assert "[listen] admin" in caught.value.hint


async def test_address_is_free_again_when_stopped(listener: Listener) -> None:
    await listener.http.stop()
    second = AdminHttp(f"127.0.0.1:{listener.port}", Health())
    assert await second.start() == listener.port
    await second.stop()
