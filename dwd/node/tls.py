"""TLS of the HTTP listeners: a context whose certificate is read again when its files change, without a restart."""

from __future__ import annotations

import ssl
from pathlib import Path

import structlog

from dwd.base.errors import InvalidArgument
from dwd.runtime.worker import Progress

RELOAD_SECONDS = 30.0
_log = structlog.get_logger("dwd.node")


class ReloadingTls:
    """A server context and the worker that keeps it fresh. New handshakes use the newest pair that could be read."""

    idle_seconds = RELOAD_SECONDS

    def __init__(self, listener: str, certificate: Path, key: Path) -> None:
        """Raises InvalidArgument when the pair cannot be used."""
        self.name = f"node.tls.{listener}"
        self._certificate = certificate
        self._key = key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._seen = self._stamps()
        try:
            self.context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            raise InvalidArgument(
                "node.bad_certificate",
                f"the {listener} listener cannot use {certificate} with {key}: {error}",
                hint="see [tls] in the settings",
            ) from error

    async def work(self) -> Progress:
        stamps = self._stamps()
        if stamps != self._seen:
            try:
                self.context.load_cert_chain(self._certificate, self._key)
            except (OSError, ssl.SSLError) as error:
                _log.error("keeping the old certificate", certificate=str(self._certificate), error=str(error))
            else:
                _log.info("certificate reloaded", certificate=str(self._certificate))
            self._seen = stamps
        return Progress.IDLE

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        found = []
        for path in (self._certificate, self._key):
            try:
                stat = path.stat()
                found.append((stat.st_mtime_ns, stat.st_ino))
            except OSError:
                found.append((0, 0))
        return tuple(found)


def tls_for(listener: str, certificate: Path | None, key: Path | None) -> ReloadingTls | None:
    """None when the settings name no certificate: plain HTTP."""
    return ReloadingTls(listener, certificate, key) if certificate is not None and key is not None else None
