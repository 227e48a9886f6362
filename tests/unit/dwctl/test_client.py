"""What dwctl makes of a call that failed, and of nodes that do not answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from dwctl import client, dial
from dwctl.client import AdminClient, connect, translate
from dwctl.context import learn, read_cluster
from dwd.base import wire
from dwd.base.errors import Conflict, DeadlineExceeded, DwError, NotFound, OutcomeUnknown, Unavailable
from dwd.base.ids import ClusterId
from dwd.runtime.clock import SystemClock
from dwd.security.authority import create_authority

Code = grpc.StatusCode


class Failed(grpc.RpcError):
    """As gRPC raises it."""

    def __init__(self, status: Code, details: str | None = None, metadata: Any = None) -> None:
        super().__init__()
        self._status, self._details, self._metadata = status, details, metadata

    def code(self) -> Code:
        return self._status

    def details(self) -> str | None:
        return self._details

    def trailing_metadata(self) -> Any:
        return self._metadata


def carrying(error: DwError) -> tuple[tuple[str, bytes | str], ...]:
    return (("x-other", "1"), (wire.METADATA_KEY, wire.encode(error)))


@pytest.mark.parametrize("status", [Code.FAILED_PRECONDITION, Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED])
@pytest.mark.parametrize("changing", [False, True])
def test_error_is_the_servers_own_when_it_sent_one(status: Code, *, changing: bool) -> None:
    sent = Conflict("meta.user_owns_buckets", "the user owns buckets", hint="delete them", count=3)
    found = translate(Failed(status, "text", carrying(sent)), changing=changing)
    assert type(found) is Conflict
    assert (found.code, found.message, found.hint, found.fields) == (sent.code, sent.message, sent.hint, sent.fields)


def test_error_says_so_when_what_the_server_sent_cannot_be_read() -> None:
    found = translate(Failed(Code.INTERNAL, "x", ((wire.METADATA_KEY, b"\xff"),)), changing=False)
    assert found.code == "rpc.unreadable_error"


@pytest.mark.parametrize(
    ("status", "changing", "kind", "code"),
    [
        (Code.UNAVAILABLE, False, Unavailable, "dwctl.connection_lost"),
        (Code.DEADLINE_EXCEEDED, False, DeadlineExceeded, "dwctl.deadline"),
        (Code.UNAVAILABLE, True, OutcomeUnknown, "dwctl.outcome_unknown"),
        (Code.DEADLINE_EXCEEDED, True, OutcomeUnknown, "dwctl.outcome_unknown"),
        (Code.UNIMPLEMENTED, False, DwError, "dwctl.rpc_failed"),
        (Code.UNIMPLEMENTED, True, DwError, "dwctl.rpc_failed"),
    ],
)
@pytest.mark.parametrize("metadata", [None, (), (("x-other", "1"),)])
def test_status_decides_when_the_server_said_nothing(
    status: Code, kind: type[DwError], code: str, metadata: Any, *, changing: bool
) -> None:
    found = translate(Failed(status, "the socket closed", metadata), changing=changing)
    assert (type(found), found.code) == (kind, code)
    assert "the socket closed" in found.message
    assert found.hint
    assert "no details" in translate(Failed(status), changing=changing).message


@pytest.fixture
def admin() -> Iterator[AdminClient]:
    with grpc.insecure_channel("127.0.0.1:1") as channel:
        yield AdminClient(channel, "127.0.0.1:1")


def failing(_request: object, *, timeout: float) -> Any:
    assert timeout > 0
    raise Failed(Code.UNAVAILABLE, "gone")


def test_outcome_is_unknown_when_a_change_breaks_off_and_not_when_a_question_does(admin: AdminClient) -> None:
    with pytest.raises(Unavailable):
        admin.ask(failing, object())
    with pytest.raises(OutcomeUnknown):
        admin.change(failing, object())


def test_stream_gives_what_came_before_it_broke_off(admin: AdminClient) -> None:
    def breaking(_request: object, *, timeout: float) -> Iterator[int]:
        assert timeout > 0
        yield 1
        raise Failed(Code.INTERNAL, "x", carrying(NotFound("device.gone", "the device is gone")))

    stream = admin.stream(breaking, object())
    assert next(stream) == 1
    with pytest.raises(NotFound, match="the device is gone"):
        next(stream)


def test_unreadable_certificate_is_named(cluster: Path) -> None:
    with pytest.raises(Unavailable, match=r"a\.pem") as caught, connect(read_cluster(cluster)):
        pytest.fail("there is no certificate")
    assert caught.value.code == "dwctl.no_certificate"


def test_nodes_that_do_not_answer_are_named(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "REFUSED_SECONDS", 0.05)
    authority = create_authority(ClusterId("ab" * 16), clock=SystemClock())
    operator = authority.issue_operator("ann", clock=SystemClock())
    for name, content in (("a.pem", authority.certificate), ("o.pem", operator.certificate), ("o.key", operator.key)):
        (cluster.parent / name).write_bytes(content)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1") as caught, connect(read_cluster(cluster)):
        pytest.fail("nobody listens")
    assert caught.value.code == "dwctl.no_node_answers"


@pytest.mark.parametrize(("told", "behind"), [(4, True), (5, False), (6, False), (Unavailable("t.u", "gone"), True)])
def test_node_of_an_older_recovery_epoch_is_passed_over(told: Any, *, behind: bool) -> None:
    class Asked:
        raft = SimpleNamespace(TellEpoch="TellEpoch")

        def ask(self, method: str, request: object, *, seconds: float) -> Any:
            if isinstance(told, DwError):
                raise told
            return SimpleNamespace(epoch=told)

    asked: Any = Asked()
    assert client.is_left_behind(asked, 5) is behind


def test_latest_recovery_epoch_is_remembered_and_never_falls(cluster: Path) -> None:
    assert learn(read_cluster(cluster), (), recovery_epoch=7)
    assert read_cluster(cluster).recovery_epoch == 7
    assert not learn(read_cluster(cluster), (), recovery_epoch=5)
    assert read_cluster(cluster).recovery_epoch == 7
