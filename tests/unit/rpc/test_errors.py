"""The table from errors to gRPC status, and what is left to say when the peer said nothing."""

from __future__ import annotations

import grpc
import pytest

from dwd.base import errors, wire
from dwd.base.errors import KINDS, DwError
from dwd.rpc.errors import status_of, translate


def _failed(status: grpc.StatusCode, details: str = "", *, carried: bytes | None = None) -> grpc.aio.AioRpcError:
    trailing = grpc.aio.Metadata() if carried is None else grpc.aio.Metadata((wire.METADATA_KEY, carried))
    return grpc.aio.AioRpcError(status, grpc.aio.Metadata(), trailing, details)


@pytest.mark.parametrize("kind", list(KINDS.values()))
@pytest.mark.parametrize("sent", [True, False])
def test_error_survives_the_wire_when_carried(kind, sent) -> None:
    error = kind("a.code", "what happened", hint="what to do", node=7, name="x", share=0.5, flag=True)
    status = status_of(error)
    again = translate(_failed(status, carried=wire.encode(error)), sent=sent)
    assert type(again) is kind
    assert (again.code, again.message, again.hint, again.fields) == (
        error.code,
        error.message,
        error.hint,
        error.fields,
    )


@pytest.mark.parametrize("kind", list(KINDS.values()))
def test_every_kind_has_a_status_of_its_own_choice_when_mapped(kind) -> None:
    status = status_of(kind("a.code", "message"))
    assert status is not grpc.StatusCode.OK
    assert (status is grpc.StatusCode.UNKNOWN) == (kind is errors.OutcomeUnknown)


@pytest.mark.parametrize(
    ("status", "details", "sent", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses; refused", True, errors.Unavailable),
        (grpc.StatusCode.UNAVAILABLE, "Socket closed", True, errors.OutcomeUnknown),
        (grpc.StatusCode.UNAVAILABLE, "Socket closed", False, errors.Unavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "", True, errors.OutcomeUnknown),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "", False, errors.DeadlineExceeded),
        (grpc.StatusCode.CANCELLED, "", True, errors.OutcomeUnknown),
        (grpc.StatusCode.CANCELLED, "", False, errors.Unavailable),
        (grpc.StatusCode.UNIMPLEMENTED, "", True, errors.VersionRefused),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "SERVER: Received message larger than max", True, errors.InvalidArgument),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "CLIENT: Received message larger than max", True, errors.OutcomeUnknown),
        (grpc.StatusCode.INTERNAL, "x", True, errors.OutcomeUnknown),
        (grpc.StatusCode.UNKNOWN, "x", False, DwError),
    ],
)
def test_failure_is_judged_by_what_may_have_happened_when_the_peer_said_nothing(status, details, sent, kind) -> None:
    assert type(translate(_failed(status, details), sent=sent)) is kind


def test_error_stays_readable_when_what_is_carried_is_not() -> None:
    error = translate(_failed(grpc.StatusCode.NOT_FOUND, carried=b"\xff"), sent=False)
    assert error.code == "rpc.unreadable_error"


@pytest.mark.parametrize("letter", ["x", "\u00e9", "\U0001f4be", '"', "\x00"])
def test_error_stays_readable_when_it_is_very_long(letter) -> None:
    error = errors.Busy("a.code", letter * 100_000, hint=letter * 100_000, field=letter * 100_000)
    encoded = wire.encode(error)
    assert len(encoded) <= wire.METADATA_BYTES_MAX
    again = wire.decode(encoded)
    assert (type(again), again.code) == (errors.Busy, "a.code")
    assert again.message.startswith(letter)
