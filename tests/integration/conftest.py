"""Clusters for tests that do harm: the shared one, which they leave healthy, and their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.harness import Cluster, running

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.integration)


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
        running.append(made[-1])
        return made[-1].up()

    try:
        yield make
    finally:
        for cluster in made:
            cluster.down()
            running.remove(cluster)
