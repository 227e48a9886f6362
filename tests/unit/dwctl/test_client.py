"""What dwctl makes of a call that failed, and of nodes that do not answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import grpc
import pytest

from dwctl import dial
from dwctl.client import AdminClient, connect, translate
from dwctl.context import learn, read_cluster
from dwd.base import wire
from dwd.base.errors import Conflict, DeadlineExceeded, DwError, NotFound, OutcomeUnknown, SafetyRefused, Unavailable
from dwd.base.ids import ClusterId, NodeId
from dwd.pb.admin.v1 import consensus_pb2, consensus_pb2_grpc
from dwd.runtime.clock import SystemClock
from dwd.security.authority import Authority, create_authority
from dwd.security.credentials import request_certificate

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


@pytest.fixture
def credentials(cluster: Path) -> Authority:
    """Written where the cluster's document says; returned: who signed them."""
    authority = create_authority(ClusterId("ab" * 16), clock=SystemClock())
    operator = authority.issue_operator("ann", clock=SystemClock())
    for name, content in (("a.pem", authority.certificate), ("o.pem", operator.certificate), ("o.key", operator.key)):
        (cluster.parent / name).write_bytes(content)
    return authority


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


@pytest.mark.usefixtures("credentials")
def test_nodes_that_do_not_answer_are_named(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "REFUSED_SECONDS", 0.05)
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1") as caught, connect(read_cluster(cluster)):
        pytest.fail("nobody listens")
    assert caught.value.code == "dwctl.no_node_answers"


class Asked(consensus_pb2_grpc.ConsensusServicer):
    def __init__(self, epoch: int | None) -> None:
        self.epoch = epoch

    def TellEpoch(self, request: Any, context: Any) -> Any:  # noqa: N802 - as the service names it
        if self.epoch is None:
            context.abort(Code.INTERNAL, "gone wrong")
        return consensus_pb2.TellEpochReply(epoch=self.epoch)


@pytest.mark.parametrize(("told", "taken"), [(4, False), (5, True), (6, True), (None, False)])
def test_node_of_an_older_recovery_epoch_is_passed_over(
    cluster: Path, credentials: Authority, told: int | None, *, taken: bool
) -> None:
    request = request_certificate()
    certificate = credentials.sign_node(request.request, NodeId(7), clock=SystemClock())
    served = grpc.ssl_server_credentials(
        [(request.key, certificate)], credentials.certificate, require_client_auth=True
    )  # fmt: skip
    server = grpc.server(ThreadPoolExecutor(1))
    consensus_pb2_grpc.add_ConsensusServicer_to_server(Asked(told), server)
    port = server.add_secure_port("127.0.0.1:0", served)
    server.start()
    document = json.loads(cluster.read_text())
    document["nodes"] = [{**document["nodes"][0], "grpc": f"127.0.0.1:{port}"}]
    document["recovery_epoch"] = 5
    cluster.write_text(json.dumps(document))
    found = []
    with nullcontext() if taken else pytest.raises(SafetyRefused, match="left behind"):  # noqa: SIM117 - the outer one judges
        with connect(read_cluster(cluster)) as client:
            found.append(client.address)
    assert found == ([f"127.0.0.1:{port}"] if taken else [])
    server.stop(None).wait()


def test_latest_recovery_epoch_is_remembered_and_never_falls(cluster: Path) -> None:
    assert learn(read_cluster(cluster), (), recovery_epoch=7)
    assert read_cluster(cluster).recovery_epoch == 7
    assert not learn(read_cluster(cluster), (), recovery_epoch=5)
    assert read_cluster(cluster).recovery_epoch == 7
