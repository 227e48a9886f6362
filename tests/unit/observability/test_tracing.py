"""Spans: nothing when off, linked across nodes when on."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from dwd.observability import tracing


@pytest.fixture
def traced() -> Iterator[tuple[InMemorySpanExporter, Callable[[], None]]]:
    exporter = InMemorySpanExporter()
    switch_off = tracing.configure("http://collector:4317", node="a1", exporter=exporter)
    yield exporter, switch_off
    switch_off()


def test_nothing_is_made_or_sent_when_no_endpoint_is_set() -> None:
    switch_off = tracing.configure("", node="a1")
    with tracing.span("objects.put", bucket="b"):
        assert tracing.outgoing() == {}
    with tracing.incoming({"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}):
        assert tracing.outgoing() == {}
    switch_off()


def test_span_carries_name_node_and_attributes_when_on(
    traced: tuple[InMemorySpanExporter, Callable[[], None]],
) -> None:
    exporter, switch_off = traced
    with tracing.span("objects.put", bucket="b", blocks=3):
        pass
    switch_off()
    (span,) = exporter.get_finished_spans()
    assert span.name == "objects.put"
    assert dict(span.attributes or {}) == {"bucket": "b", "blocks": 3}
    assert span.resource.attributes["service.instance.id"] == "a1"


def test_called_node_continues_the_trace_when_headers_are_handed_over(
    traced: tuple[InMemorySpanExporter, Callable[[], None]],
) -> None:
    exporter, switch_off = traced
    with tracing.span("caller"):
        headers = tracing.outgoing()
    with tracing.incoming(headers), tracing.span("called"):
        pass
    with tracing.span("unrelated"):
        pass
    switch_off()
    spans = {span.name: span for span in exporter.get_finished_spans()}
    parent = spans["called"].parent
    assert parent is not None
    assert parent.span_id == spans["caller"].context.span_id
    assert spans["called"].context.trace_id == spans["caller"].context.trace_id
    assert spans["unrelated"].parent is None


def test_spans_stop_when_switched_off(traced: tuple[InMemorySpanExporter, Callable[[], None]]) -> None:
    exporter, switch_off = traced
    switch_off()
    with tracing.span("late"):
        pass
    assert exporter.get_finished_spans() == ()
