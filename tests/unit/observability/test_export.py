"""What a Prometheus server reads, parsed by Prometheus's own parser."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from dwd.observability import export, metrics

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_instruments", {})


def scraped() -> Samples:
    families = text_string_to_metric_families(export.render_metrics().decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


def test_counter_is_a_total_with_its_labels_when_scraped() -> None:
    requests = metrics.counter("dwd.test.requests", "requests", "{request}")
    requests.add(3, op="put", status=200)
    requests.add(op="get")
    samples = scraped()
    assert samples[("dwd_test_requests_total", (("op", "put"), ("status", "200")))] == 3
    assert samples[("dwd_test_requests_total", (("op", "get"), ("status", "")))] == 1


def test_histogram_has_cumulative_buckets_count_and_sum_when_scraped() -> None:
    times = metrics.histogram("dwd.test.times", "times", "s", bounds=(1.0, 2.0))
    for value in (0.5, 1.5, 9.0):
        times.record(value)
    samples = scraped()
    buckets = [samples[("dwd_test_times_seconds_bucket", (("le", bound),))] for bound in ("1.0", "2.0", "+Inf")]
    assert buckets == [1, 2, 3]
    assert samples[("dwd_test_times_seconds_count", ())] == 3
    assert samples[("dwd_test_times_seconds_sum", ())] == 11.0


def test_gauge_gives_one_value_for_each_label_set_when_scraped() -> None:
    metrics.gauge("dwd.test.size", "size", "By", lambda: 5)
    metrics.gauge("dwd.test.applied", "applied", "1", lambda: [(7, {"group": 0}), (9, {"group": 1})])
    samples = scraped()
    assert samples[("dwd_test_size_bytes", ())] == 5
    assert samples[("dwd_test_applied", (("group", "0"),))] == 7
    assert samples[("dwd_test_applied", (("group", "1"),))] == 9


def test_others_are_scraped_and_a_warning_logged_when_one_gauge_fails() -> None:
    def broken() -> float:
        raise KeyError("gone")

    metrics.gauge("dwd.test.broken", "broken", "1", broken)
    metrics.gauge("dwd.test.fine", "fine", "1", lambda: 1)
    with capture_logs() as lines:
        samples = scraped()
    assert ("dwd_test_fine", ()) in samples
    assert ("dwd_test_broken", ()) not in samples
    assert [(line["log_level"], line["metric"]) for line in lines] == [("warning", "dwd.test.broken")]


def test_values_are_the_newest_when_scraped_again() -> None:
    requests = metrics.counter("dwd.test.requests", "requests", "{request}")
    requests.add()
    scraped()
    requests.add()
    assert scraped()[("dwd_test_requests_total", ())] == 2


def test_process_figures_are_there_when_scraped() -> None:
    samples = scraped()
    assert samples[("process_resident_memory_bytes", ())] > 1_000_000
    assert samples[("process_open_fds", ())] >= 3
    assert samples[("process_cpu_seconds_total", ())] > 0
    assert samples[("dwd_process_threads", ())] >= 1


def test_content_type_is_prometheus_text_when_asked() -> None:
    assert export.CONTENT_TYPE.startswith("text/plain; version=")
