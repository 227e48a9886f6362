"""Errors to gRPC status and back. One of the three tables that map the error tree outward.

The status is for tools that only know gRPC; dwd's own clients read the error itself from the trailing metadata
(`dwd.base.wire`). Where there is none (the connection broke, the deadline passed), what is left to say depends on
whether the request may have reached the peer: `sent` is the caller's word for "this call can change state".
"""

from __future__ import annotations

from typing import Any, NoReturn

import grpc

from dwd.base import errors, wire
from dwd.base.errors import DwError

DETAILS_CHARS_MAX = 500


class Unexpected(DwError):
    """A handler failed by a bug. Clients see a plain DwError, or OutcomeUnknown where the call changes state."""


_STATUS: tuple[tuple[type[DwError], grpc.StatusCode], ...] = (
    (errors.InvalidArgument, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.NotFound, grpc.StatusCode.NOT_FOUND),
    (errors.AlreadyExists, grpc.StatusCode.ALREADY_EXISTS),
    (errors.Conflict, grpc.StatusCode.ABORTED),
    (errors.Unauthenticated, grpc.StatusCode.UNAUTHENTICATED),
    (errors.PermissionDenied, grpc.StatusCode.PERMISSION_DENIED),
    (errors.SafetyRefused, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.VersionRefused, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.Busy, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.NoSpace, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.Unavailable, grpc.StatusCode.UNAVAILABLE),
    (errors.DeadlineExceeded, grpc.StatusCode.DEADLINE_EXCEEDED),
    (errors.OutcomeUnknown, grpc.StatusCode.UNKNOWN),
    (errors.Corrupt, grpc.StatusCode.DATA_LOSS),
    (errors.StorageFailed, grpc.StatusCode.INTERNAL),
    (errors.InvariantViolation, grpc.StatusCode.INTERNAL),
    (Unexpected, grpc.StatusCode.INTERNAL),
)

_REFUSED: dict[grpc.StatusCode, tuple[type[DwError], str]] = {
    grpc.StatusCode.UNIMPLEMENTED: (errors.VersionRefused, "rpc.unknown_method"),
    grpc.StatusCode.UNAUTHENTICATED: (errors.Unauthenticated, "rpc.unauthenticated"),
    grpc.StatusCode.PERMISSION_DENIED: (errors.PermissionDenied, "rpc.denied"),
}
"""Statuses gRPC itself answers with before any handler runs."""
_BROKEN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
_TOO_LARGE = "larger than max"
_ANSWER_TOO_LARGE = ("CLIENT: Received", "SERVER: Sent")
"""Then the call was carried out, and only its answer did not fit."""
_NEVER_SENT = ("failed to connect to all addresses", "connections to all backends failing")
"""How gRPC words that no connection could be made. If a later gRPC words it otherwise, mutations are reported as
OutcomeUnknown instead of Unavailable: safe, and a test notices."""
_UNTRUSTED = ("CERTIFICATE", "andshake", "certificate", "Hostname Verification")


def status_of(error: DwError) -> grpc.StatusCode:
    """The gRPC status for `error`; kinds without one of their own are UNKNOWN."""
    for kind, code in _STATUS:
        if isinstance(error, kind):
            return code
    return grpc.StatusCode.UNKNOWN


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: DwError) -> NoReturn:
    """End a call with `error`. Raises gRPC's own AbortError, which must not be swallowed."""
    details = f"{error.code}: {error.message}"[:DETAILS_CHARS_MAX]
    metadata = ((wire.METADATA_KEY, wire.encode(error)),)
    await context.abort(status_of(error), details, metadata)
    raise error


def translate(error: grpc.RpcError, *, sent: bool) -> DwError:
    """What a failed call means. `sent`: the request may have reached the peer and can change state there."""
    status, details, carried = _parts(error)
    if carried is not None:
        if sent and status is grpc.StatusCode.INTERNAL and type(carried) is DwError:
            return errors.OutcomeUnknown(carried.code, carried.message, hint=carried.hint, **carried.fields)
        return carried
    if status is grpc.StatusCode.UNAVAILABLE and any(mark in details for mark in _NEVER_SENT):
        if any(mark in details for mark in _UNTRUSTED):
            return errors.Unavailable(
                "rpc.untrusted",
                f"no trusted connection: {details}",
                hint="check that both sides belong to one cluster, their certificates are valid and their clocks right",
            )
        return errors.Unavailable("rpc.unreachable", f"the node cannot be reached: {details}")
    return _without_word(status, details, sent=sent)


def _without_word(status: grpc.StatusCode, details: str, *, sent: bool) -> DwError:
    """The peer said nothing of its own: gRPC, or the lack of an answer, speaks."""
    refused = _REFUSED.get(status)
    if refused is not None:
        kind, code = refused
        return kind(code, details)
    answered = any(mark in details for mark in _ANSWER_TOO_LARGE)
    if status is grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LARGE in details and not answered:
        return errors.InvalidArgument("rpc.message_too_large", details)
    if sent:
        return errors.OutcomeUnknown("rpc.outcome_unknown", f"the call broke off: {details}", status=status.name)
    if status is grpc.StatusCode.DEADLINE_EXCEEDED:
        return errors.DeadlineExceeded("rpc.deadline", f"no answer in time: {details}")
    if status in _BROKEN:
        return errors.Unavailable("rpc.unavailable", f"the call broke off: {details}")
    return DwError("rpc.failed", f"{status.name}: {details}")


def _parts(error: grpc.RpcError) -> tuple[grpc.StatusCode, str, DwError | None]:
    if isinstance(error, grpc.aio.AioRpcError):
        trailing: Any = error.trailing_metadata()
        details = error.details()
        status = error.code()
    elif isinstance(error, grpc.Call):
        trailing, details, status = error.trailing_metadata(), error.details(), error.code()
    else:
        return grpc.StatusCode.UNKNOWN, str(error)[:DETAILS_CHARS_MAX], None
    carried = next((wire.decode(value) for key, value in trailing or () if key == wire.METADATA_KEY), None)
    return status, (details or "no details")[:DETAILS_CHARS_MAX], carried
