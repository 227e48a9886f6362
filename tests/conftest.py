"""What every test starts from: logging as nobody configured it, and quiet below warnings. One cluster of real daemons
for all integration tests that leave it healthy; log tails of every daemon when such a test fails.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterator
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.integration.harness import Cluster, running

settings.register_profile("dwd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("dwd")  # how fast the machine is says nothing about the code


@pytest.fixture(autouse=True)
def _quiet_logs() -> None:
    """Whatever a test before this one did to structlog, which is global, ends here."""
    structlog.reset_defaults()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, Any, None]:
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for cluster in running:
            report.sections.append((f"logs in {cluster.root}", cluster.tails()))


@pytest.fixture(scope="session")
def six(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Six nodes with rs-4-2, for the whole run. Tests use `cluster` or `clients`, which see that it is left healthy."""
    made = Cluster(tmp_path_factory.mktemp("six"), 6, profile="rs-4-2")
    running.append(made)
    try:
        yield made.up()
    finally:
        made.down()
        running.remove(made)
