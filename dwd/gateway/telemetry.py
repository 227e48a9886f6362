"""What is counted and logged of every request. Keys of objects are logged, secrets and signatures never come here."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from dwd.observability import metrics

_REQUESTS = metrics.counter("dwd.gateway.requests", "S3 requests answered", "{request}")
_SECONDS = metrics.histogram("dwd.gateway.request.duration", "From the head of a request to the end of its answer", "s")
_BYTES_IN = metrics.counter("dwd.gateway.received", "Body bytes received", "By")
_BYTES_OUT = metrics.counter("dwd.gateway.sent", "Body bytes sent", "By")
_SHED = metrics.counter("dwd.gateway.shed", "Requests told to slow down", "{request}")
_ABORTED = metrics.counter("dwd.gateway.aborted", "Answers broken off after their head", "{request}")

_LOG = structlog.get_logger("dwd.gateway")


@dataclass(slots=True, kw_only=True)
class AccessRecord:
    """One request as the access log shows it; filled while it is served."""

    request_id: str
    method: str
    operation: str = "unknown"
    caller: str = ""
    bucket: str = ""
    key: str = ""
    status: int = 0
    error: str = ""
    bytes_in: int = 0
    bytes_out: int = 0


def shed() -> None:
    _SHED.add(1)


def aborted(request_id: str, reason: str) -> None:
    _ABORTED.add(1)
    _LOG.info("answer broken off", request_id=request_id, reason=reason)


def failed(request_id: str, error: BaseException) -> None:
    """A bug, or memory rot: nothing a client did."""
    _LOG.error("request failed", request_id=request_id, exc_info=error)


def finished(record: AccessRecord, seconds: float, *, log: bool) -> None:
    _REQUESTS.add(1, operation=record.operation, status=record.status)
    _SECONDS.record(seconds, operation=record.operation)
    if record.bytes_in:
        _BYTES_IN.add(record.bytes_in)
    if record.bytes_out:
        _BYTES_OUT.add(record.bytes_out)
    if log or record.status >= 500:
        _LOG.info(
            "access",
            request_id=record.request_id,
            caller=record.caller,
            op=record.operation,
            method=record.method,
            bucket=record.bucket,
            key=record.key,
            status=record.status,
            error=record.error,
            bytes_in=record.bytes_in,
            bytes_out=record.bytes_out,
            ms=round(seconds * 1_000, 2),
        )
