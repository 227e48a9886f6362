"""Tells systemd what the daemon is doing: ready, stopping, alive. Silent when it was not started by systemd.

Source: sd_notify(3): datagrams of NAME=VALUE lines to the unix socket in NOTIFY_SOCKET ("@" opens an abstract name).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

import structlog

WATCHDOG_SHARE = 0.5
"""systemd advises to ping at half the watchdog's interval."""

_log = structlog.get_logger("dwd.runtime")


class Notifier:
    """Never raises and never blocks: a supervisor that does not listen must not stop the daemon."""

    def __init__(self, address: str = "", *, watchdog_seconds: float = 0.0) -> None:
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.ping_seconds = watchdog_seconds * WATCHDOG_SHARE
        """How often to call `watchdog`; 0.0 when nobody watches."""

    def ready(self, status: str) -> None:
        """The daemon serves. `status` is what `systemctl status` shows."""
        self._send(f"READY=1\nSTATUS={_line(status)}")

    def status(self, status: str) -> None:
        self._send(f"STATUS={_line(status)}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def watchdog(self) -> None:
        """The event loop turns. Call it from the loop itself, or it proves nothing."""
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as channel:
                channel.setblocking(False)
                channel.sendto(message.encode(), self._address)
        except OSError as error:
            _log.warning("cannot notify the supervisor", error=str(error))


def notifier_from(environment: Mapping[str, str]) -> Notifier:
    """The notifier that the variables NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID ask for."""
    watched_pid = environment.get("WATCHDOG_PID", "")
    microseconds = environment.get("WATCHDOG_USEC", "")
    watched = microseconds.isdigit() and watched_pid in {"", str(os.getpid())}
    return Notifier(
        environment.get("NOTIFY_SOCKET", ""), watchdog_seconds=int(microseconds) / 1_000_000 if watched else 0.0
    )


def _line(text: str) -> str:
    return text.replace("\n", " ")
