"""Rounds of writing, losing power and checking. `make power-loss ROUNDS=50 SEED=7` runs many of them.

A round: all nodes record what is not synced; clients write; at a random instant every node is killed and loses what it
had not synced, or some of it so that writes are torn and reordered, and then perhaps half a batch is left at the end of
every node's log, so that all replicas doubt their tails at once; all start again; every promise is checked. The same
seed gives the same operations and instants, though not the same interleaving.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from enum import Enum
from pathlib import Path

from tests.power_loss.clients import BUCKET, Writers, check, clients
from tests.power_loss.ledger import Ledger
from tests.power_loss.machine import CLOCK, Loss, PowerCluster
from tests.raft_harness.seeded import SeededRng

BEGIN_SECONDS = 30.0
WRITE_SECONDS = (0.3, 3.0)
VERIFY_SECONDS = 60.0


class Kind(Enum):
    """What is lost with the power."""

    ALL = "all that was not synced"
    SOME = "some of it, torn"
    DOUBT = "some of it, and every log torn"


KINDS = (Kind.ALL, Kind.SOME, Kind.DOUBT)


class Campaign:
    """`with Campaign(...)` starts a cluster that is up and stopped; `run` plays rounds on it."""

    def __init__(self, cluster: PowerCluster, *, seed: int, say: Callable[[str], None] = print) -> None:
        self.cluster = cluster
        self.ledger = Ledger()
        self._seed = seed
        self._say = say

    def __enter__(self) -> Campaign:
        try:
            _ = self.cluster.start()
            self._endpoints = clients(self.cluster.s3)
            self._endpoints[0].create_bucket(Bucket=BUCKET)
        except BaseException:
            self.cluster.down()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.cluster.down()

    def run(self, rounds: int, *, ignoring: Sequence[str] = ()) -> None:
        """`ignoring`: what must lie about its syncs, as in `PowerCluster.start`. Raises Loss."""
        if ignoring:
            _ = self.cluster.cut_power(None)
            _ = self.cluster.start(ignoring=ignoring)
        for number in range(rounds):
            self._round(number, ignoring)
        self.cluster.verify(VERIFY_SECONDS)

    def _round(self, number: int, ignoring: Sequence[str]) -> None:
        seed = self._seed * 10_000 + number
        rng = SeededRng(seed)
        before = self.ledger.acknowledged
        writers = Writers(self._endpoints, self.ledger, seed)
        if not writers.began.wait(BEGIN_SECONDS):
            raise Loss("nothing can be written")
        seconds = rng.uniform(*WRITE_SECONDS)
        time.sleep(seconds)
        kind = KINDS[number % len(KINDS)]
        dropped = self.cluster.cut_power(rng if kind is not Kind.ALL else None)
        writers.stop()
        writers.join()
        if kind is Kind.DOUBT:
            self.cluster.tear_logs()
        ready = self.cluster.start(ignoring=ignoring)
        began = CLOCK.monotonic()
        check(self._endpoints, self.ledger, seed)
        if writers.troubles:
            raise Loss("\n".join(writers.troubles))
        if not ignoring:
            doubted = self.cluster.read_logs()
            if kind is Kind.DOUBT and doubted != set(self.cluster.names):
                raise AssertionError(f"only {doubted} doubted their tails: the test is broken")
        self._say(
            f"round {number}: {self.ledger.acknowledged - before} acknowledged in {seconds:.2f} s, {dropped} changes "
            f"({kind.value}) taken back, ready after {ready:.1f} s, all found in "
            f"{CLOCK.monotonic() - began:.1f} s"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--profile", default="replica-3")
    parser.add_argument("--dir", type=Path, help="keep everything here")
    parser.add_argument(
        "--ignore-syncs", action="append", default=[], metavar="PART",
        help="make syncs of data_dir/PART do nothing ('' for all): then a loss must be found, and the exit code is 1",
    )  # fmt: skip
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dwd-power-") as scratch:
        root = options.dir or Path(scratch)
        try:
            cluster = PowerCluster(root, nodes=options.nodes, profile=options.profile)
            cluster.up()
            with Campaign(cluster, seed=options.seed) as campaign:
                campaign.run(options.rounds, ignoring=options.ignore_syncs)
        except Loss as loss:
            sys.stderr.write(f"LOST (seed {options.seed}): {loss}\n")
            return 1
    sys.stdout.write(f"{campaign.ledger.acknowledged} acknowledged operations survived {options.rounds} power losses\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
