"""A node that is told to stop hands over what it leads before it goes: writers hardly notice."""

from __future__ import annotations

import itertools
import threading

from tests.integration.clients import bucket, client_at
from tests.integration.harness import Cluster, clock, until

GAP_SECONDS_MAX = 4.0
"""Generous: it is a few tenths of a second, on a loaded machine more; the figure is printed."""
BEFORE, AFTER = 20, 30


def test_writes_go_on_nearly_at_once_when_their_leader_is_told_to_stop(cluster: Cluster) -> None:
    leader = cluster.leader("shard")
    urls = dict(zip(cluster.names, cluster.document["s3"]["endpoints"], strict=True))
    other = next(name for name in cluster.names if name != leader)
    acknowledged: list[float] = []
    failed: list[str] = []
    enough = threading.Event()

    with bucket(cluster, "graceful") as name:

        def write() -> None:
            s3 = client_at(cluster.document["s3"], urls[other])
            while not enough.is_set():
                try:
                    s3.put_object(Bucket=name, Key=f"k{len(acknowledged)}", Body=b"x")
                except Exception as error:  # noqa: BLE001 - told by the test, whatever it was
                    failed.append(repr(error))
                else:
                    acknowledged.append(clock.monotonic())

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        try:
            until("objects are written", lambda: len(acknowledged) >= BEFORE)
            began = clock.monotonic()
            cluster.act("stop", leader)
            stopped = clock.monotonic()
            count = len(acknowledged)
            until("writes go on without the leader", lambda: len(acknowledged) >= count + AFTER)
        finally:
            enough.set()
            writer.join(timeout=30)
            cluster.act("start", leader)
        gap = max(after - before for before, after in itertools.pairwise(acknowledged))
        print(f"longest pause between writes {gap:.2f} s, stopping took {stopped - began:.2f} s")  # noqa: T201 - a figure
        assert gap < GAP_SECONDS_MAX
        assert failed == []
