"""The admin HTTP listener: health probes and metrics.

`/health/live` and `/health/ready` answer 200 or 503 with the failing checks as JSON; `/metrics` is Prometheus text.
None of them needs a key: they say nothing of the data, and the listener is loopback unless configured.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable

from aiohttp import web

from dwd.base.errors import Unavailable
from dwd.observability.export import CONTENT_TYPE, render_metrics
from dwd.observability.health import Health, HealthReport

STOP_SECONDS = 2.0
HEADER_BYTES_MAX = 8_190


class AdminHttp:
    """One listener. `start` binds it."""

    def __init__(self, address: str, health: Health, *, tls: ssl.SSLContext | None = None) -> None:
        host, _, port = address.rpartition(":")
        self._host, self._port, self._tls = host.strip("[]"), int(port), tls
        application = web.Application(client_max_size=64 * 1024)
        application.router.add_get("/health/live", _probe(health.live))
        application.router.add_get("/health/ready", _probe(health.ready))
        application.router.add_get("/metrics", _metrics)
        self._runner = web.AppRunner(
            application, access_log=None, max_line_size=HEADER_BYTES_MAX, shutdown_timeout=STOP_SECONDS
        )

    async def start(self) -> int:
        """The port bound. Raises Unavailable when it is taken."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port, ssl_context=self._tls)
        try:
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise Unavailable(
                "admin.cannot_listen",
                f"cannot listen on {self._host}:{self._port} for admin HTTP: {error.strerror}",
                hint="is another daemon running? see [listen] admin",
            ) from error
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        await self._runner.cleanup()


def _probe(report: Callable[[], HealthReport]) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_request: web.Request) -> web.Response:
        found = report()
        document = {"status": "pass" if found.passed else "fail", "reasons": list(found.reasons)}
        return web.json_response(document, status=200 if found.passed else 503)

    return answer


async def _metrics(_request: web.Request) -> web.Response:
    return web.Response(body=render_metrics(), headers={"Content-Type": CONTENT_TYPE})
