"""What systemd hears, over a real datagram socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dwd.runtime.notify import Notifier, notifier_from


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        yield listener


def test_supervisor_hears_each_state_when_notified(supervisor: socket.socket) -> None:
    notifier = notifier_from({"NOTIFY_SOCKET": supervisor.getsockname()})
    notifier.ready("leader of 1 group\nsecond line")
    notifier.watchdog()
    notifier.status("draining")
    notifier.stopping()
    assert [supervisor.recv(4096) for _ in range(4)] == [
        b"READY=1\nSTATUS=leader of 1 group second line",
        b"WATCHDOG=1",
        b"STATUS=draining",
        b"STOPPING=1",
    ]


def test_abstract_address_is_reached_when_it_starts_with_an_at_sign() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        name = f"dwd-test-{os.getpid()}-{id(listener)}"
        listener.bind(f"\0{name}")
        listener.setblocking(False)
        Notifier(f"@{name}").watchdog()
        assert listener.recv(100) == b"WATCHDOG=1"


def test_nothing_happens_when_not_started_by_systemd() -> None:
    with capture_logs() as lines:
        notifier = notifier_from({})
        notifier.ready("up")
    assert notifier.ping_seconds == 0.0
    assert lines == []


def test_daemon_goes_on_with_a_warning_when_the_supervisor_is_gone(tmp_path: Path) -> None:
    with capture_logs() as lines:
        Notifier(str(tmp_path / "nobody")).ready("up")
    assert [line["log_level"] for line in lines] == ["warning"]


def test_daemon_does_not_block_when_the_supervisor_does_not_read(supervisor: socket.socket) -> None:
    notifier = Notifier(supervisor.getsockname())
    with capture_logs() as lines:
        for _ in range(5_000):
            notifier.watchdog()
            if lines:
                break
    assert lines


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
    ],
)
def test_ping_interval_is_half_the_watchdogs_when_this_process_is_watched(
    environment: dict[str, str], seconds: float
) -> None:
    assert notifier_from(environment).ping_seconds == seconds
