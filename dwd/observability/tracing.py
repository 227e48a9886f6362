"""Traces: spans around the steps of a request, carried between nodes. Off, and free, unless an OTLP endpoint is set.

The SDK and its exporter are imported only when tracing is switched on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from opentelemetry import context, propagate, trace

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

QUEUE_SPANS_MAX = 2_048
"""Spans waiting for export; the SDK drops what comes after."""
EXPORT_SECONDS = 5.0
"""One attempt to send, and how long switching off waits for the last one."""

_OFF: AbstractContextManager[None] = nullcontext()


class _State:
    """Whether the process traces."""

    tracer: trace.Tracer | None = None


def configure(endpoint: str, *, node: str, exporter: SpanExporter | None = None) -> Callable[[], None]:
    """Send spans to the OTLP gRPC `endpoint` ("http://host:4317", https for TLS); an empty one leaves tracing off.

    Returns what flushes and switches off again. `exporter` replaces the OTLP one.
    """
    if not endpoint:
        return lambda: None
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415 - an idle daemon does not pay for the SDK
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

    provider = TracerProvider(resource=Resource({"service.name": "dwd", "service.instance.id": node}))
    provider.add_span_processor(BatchSpanProcessor(exporter or _otlp(endpoint), max_queue_size=QUEUE_SPANS_MAX))
    _State.tracer = provider.get_tracer("dwd")

    def switch_off() -> None:
        _State.tracer = None
        provider.force_flush(int(EXPORT_SECONDS * 1000))
        provider.shutdown()

    return switch_off


def span(name: str, **attributes: str | int | float | bool) -> AbstractContextManager[object]:
    """Time a `with` block. `name` is "package.step"; attributes hold no secrets and no object keys."""
    tracer = _State.tracer
    if tracer is None:
        return _OFF
    return tracer.start_as_current_span(name, attributes=attributes)


def outgoing() -> dict[str, str]:
    """Headers (W3C traceparent) that let the called node continue this trace; empty when tracing is off."""
    headers: dict[str, str] = {}
    if _State.tracer is not None:
        propagate.inject(headers)
    return headers


def incoming(headers: Mapping[str, str]) -> AbstractContextManager[None]:
    """Continue the caller's trace within a `with` block; nothing when tracing is off."""
    return _OFF if _State.tracer is None else _Continued(headers)


class _Continued(AbstractContextManager[None]):
    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers

    def __enter__(self) -> None:
        self._token = context.attach(propagate.extract(self._headers))

    def __exit__(self, *_error: object) -> None:
        context.detach(self._token)


def _otlp(endpoint: str) -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - as above

    return OTLPSpanExporter(endpoint=endpoint, insecure=endpoint.startswith("http://"), timeout=EXPORT_SECONDS)
