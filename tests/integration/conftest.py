"""One six-node cluster shared by the tests that leave it healthy; log tails of every daemon when a test fails."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.harness import Cluster

HERE = Path(__file__).parent
_running: list[Cluster] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.integration)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: Any) -> Generator[None, Any, None]:
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for cluster in _running:
            report.sections.append((f"logs in {cluster.root}", cluster.tails()))


@pytest.fixture(scope="session")
def six(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Six nodes with rs-4-2. Use `cluster`, which also sees that a test leaves it healthy."""
    made = Cluster(tmp_path_factory.mktemp("six"), 6, profile="rs-4-2")
    _running.append(made)
    try:
        yield made.up()
    finally:
        made.down()
        _running.remove(made)


@pytest.fixture
def cluster(six: Cluster) -> Iterator[Cluster]:
    """The shared cluster; afterwards it must become healthy and whole by itself."""
    yield six
    six.wait_healthy()
    six.wait_whole()


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[Callable[..., Cluster]]:
    """Clusters of one test."""
    made: list[Cluster] = []

    def make(nodes: int, *, profile: str = "auto", name: str = "own") -> Cluster:
        made.append(Cluster(tmp_path / name, nodes, profile=profile))
        _running.append(made[-1])
        return made[-1].up()

    try:
        yield make
    finally:
        for cluster in made:
            cluster.down()
            _running.remove(cluster)
