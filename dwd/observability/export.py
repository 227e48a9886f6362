"""What `/metrics` answers: what `dwd.observability.metrics` holds, and the process's own figures, as Prometheus text.

Values pass through OpenTelemetry's data model, so units and names follow its rules for Prometheus
("dwd.raft.commit.duration" in "s" becomes `dwd_raft_commit_duration_seconds`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import structlog
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics import export as otel
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, GCCollector, ProcessCollector, generate_latest

from dwd.observability import metrics

CONTENT_TYPE = CONTENT_TYPE_LATEST
"""Of what `render_metrics` returns."""
_UNKNOWN_TIME = 0
"""OpenTelemetry's value for a time not recorded; Prometheus stamps samples itself."""

_CUMULATIVE = otel.AggregationTemporality.CUMULATIVE
_log = structlog.get_logger("dwd.observability")


def render_metrics() -> bytes:
    """All metrics now. Call it where gauge callbacks may run: on the event loop."""
    return generate_latest(_registry())


def collect() -> otel.MetricsData:
    """All metrics now, in OpenTelemetry's data model. A gauge whose callback fails is logged and left out."""
    collected = [found for found in map(_collected, metrics.instruments()) if found is not None]
    scope = otel.ScopeMetrics(scope=InstrumentationScope("dwd"), metrics=collected, schema_url="")
    resource = otel.ResourceMetrics(resource=Resource.get_empty(), scope_metrics=[scope], schema_url="")
    return otel.MetricsData(resource_metrics=[resource])


class _Reader(PrometheusMetricReader):
    """The stock reader; our instruments join what the SDK's own ones collected."""

    def _receive_metrics(self, metrics_data: otel.MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        joined = otel.MetricsData([*metrics_data.resource_metrics, *collect().resource_metrics])
        super()._receive_metrics(joined, timeout_millis, **kwargs)


@cache
def _registry() -> CollectorRegistry:
    registry = CollectorRegistry()
    reader = _Reader(disable_target_info=True, scope_info_enabled=False, registry=registry)
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("dwd")
    meter.create_observable_gauge(
        "dwd.process.threads", [_threads], "{thread}", "Threads of the process, native ones too"
    )
    ProcessCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def _collected(instrument: metrics.Instrument) -> otel.Metric | None:
    data: otel.Sum | otel.Gauge | otel.Histogram
    match instrument:
        case metrics.Counter():
            numbers = [_number(value, labels) for labels, value in instrument.values().items()]
            data = otel.Sum(data_points=numbers, aggregation_temporality=_CUMULATIVE, is_monotonic=True)
        case metrics.Histogram():
            shapes = [_shape(instrument, key, value) for key, value in instrument.values().items()]
            data = otel.Histogram(data_points=shapes, aggregation_temporality=_CUMULATIVE)
        case metrics.Gauge():
            data = otel.Gauge(data_points=[_number(value, labels) for value, labels in _readings(instrument)])
        case _:
            return None
    if not data.data_points:
        return None
    unit = "" if instrument.unit == "1" else instrument.unit
    return otel.Metric(name=instrument.name, description=instrument.description, unit=unit, data=data)


def _readings(gauge: metrics.Gauge) -> Iterator[tuple[float, metrics.Key]]:
    for callback in gauge.callbacks():
        try:
            reading = callback()
            pairs: Iterable[tuple[float, metrics.Key]]
            if isinstance(reading, int | float):
                pairs = ((reading, ()),)
            else:
                pairs = [(value, metrics.canonical(tuple(labels.items()))) for value, labels in reading]
        except Exception as error:  # noqa: BLE001 - one broken gauge must not take the others from the operator
            _log.warning("gauge failed", metric=gauge.name, error=repr(error))
            continue
        yield from pairs


def _number(value: float, labels: metrics.Key) -> otel.NumberDataPoint:
    return otel.NumberDataPoint(
        attributes=dict(labels), start_time_unix_nano=_UNKNOWN_TIME, time_unix_nano=_UNKNOWN_TIME, value=value
    )


def _shape(instrument: metrics.Histogram, labels: metrics.Key, value: metrics.Distribution) -> otel.HistogramDataPoint:
    return otel.HistogramDataPoint(
        attributes=dict(labels),
        start_time_unix_nano=_UNKNOWN_TIME,
        time_unix_nano=_UNKNOWN_TIME,
        count=value.count,
        sum=value.total,
        bucket_counts=value.counts,
        explicit_bounds=instrument.bounds,
        min=math.inf,
        max=-math.inf,
    )


def _threads(_options: CallbackOptions) -> Iterable[Observation]:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("Threads:"):
            yield Observation(int(line.split()[1]))
