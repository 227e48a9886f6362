"""Which of several nodes dwctl talks to when some are dead."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import islice

import grpc
import pytest

from dwctl import dial
from dwctl.client import channel_options
from dwd.base.ids import ClusterId, NodeId
from dwd.runtime.clock import SystemClock
from dwd.security.authority import create_authority
from dwd.security.credentials import request_certificate

Dialled = Callable[..., list[str]]
CLOCK = SystemClock()


@pytest.fixture
def dialled() -> Iterator[Dialled]:
    """Who answers first of nodes that are "refusing", "silent" or "serving"."""
    authority = create_authority(ClusterId("ab" * 16), clock=CLOCK)
    request = request_certificate()
    certificate = authority.sign_node(request.request, NodeId(7), clock=CLOCK)
    server = grpc.server(ThreadPoolExecutor(1))
    served = grpc.ssl_server_credentials([(request.key, certificate)], authority.certificate, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", served)
    server.start()
    silent = socket.create_server(("127.0.0.1", 0))
    addresses = {
        "serving": f"127.0.0.1:{port}",
        "silent": f"127.0.0.1:{silent.getsockname()[1]}",
        "refusing": "127.0.0.1:1",
    }
    operator = authority.issue_operator("ann", clock=CLOCK)
    credentials = grpc.ssl_channel_credentials(authority.certificate, operator.key, operator.certificate)

    def first(*nodes: str) -> list[str]:
        kinds = {address: kind for kind, address in addresses.items()}
        with closing(dial.Dial([addresses[kind] for kind in nodes], credentials, channel_options())) as found:
            return [kinds[node.address] for node in islice(found.answering(), 1)]

    yield first
    server.stop(None).wait()
    silent.close()


@pytest.mark.parametrize("dead", ["refusing", "silent"])
def test_the_next_node_is_found_when_the_first_is_dead(
    dialled: Dialled, dead: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial, "CONNECT_SECONDS", 30.0)
    began = CLOCK.monotonic()
    assert dialled(dead, "serving") == ["serving"]
    assert CLOCK.monotonic() - began < 15


def test_the_first_node_is_taken_when_it_answers(dialled: Dialled) -> None:
    assert dialled("serving", "refusing", "silent") == ["serving"]


def test_nobody_is_found_when_all_are_dead(dialled: Dialled, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "CONNECT_SECONDS", 0.2)
    assert dialled("silent", "refusing") == []
