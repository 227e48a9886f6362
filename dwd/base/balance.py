"""Which of several that could all answer is asked first: replicas, devices, nodes. Pure; whoever asks keeps the counts.

Source: Karger & Ruhl 2004 and Mitzenmacher 2001 on least-loaded choice; Efraimidis & Spirakis 2006 for weighted
samples without replacement; Twitter Finagle's "peak EWMA" for what ADAPTIVE weighs (latency times what is under way).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import assert_never

from dwd.base.clock import Rng

SECONDS_MIN = 0.000_1
"""Faster answers count as this fast: below it differences are noise."""
_TIE_BITS = 16


class Strategy(Enum):
    ROUND_ROBIN = "round-robin"
    """Each in its turn."""
    LEAST_CONNECTIONS = "least-connections"
    """The fewest requests under way for its weight."""
    WEIGHTED_RANDOM = "weighted-random"
    """By chance, in proportion to weight: keeps no counts, fits short-lived processes."""
    LATENCY_BASED = "latency-based"
    """The fastest of late; who has not answered yet first, so that everybody is known."""
    ADAPTIVE = "adaptive"
    """Fast and free: the smallest product of latency and requests under way, for its weight."""


@dataclass(frozen=True, slots=True)
class Load:
    """One candidate as the chooser sees it: `seconds` is its smoothed time to answer, 0 unknown; `weight` above 0."""

    weight: float = 1.0
    inflight: int = 0
    seconds: float = 0.0


class Balancer:
    """Orders candidates, best first. One for each set of callers that should take turns."""

    def __init__(self, strategy: Strategy, rng: Rng) -> None:
        self.strategy = strategy
        self._rng = rng
        self._turn = 0

    def order(self, loads: Sequence[Load]) -> list[int]:
        """Indexes of `loads`, each once. Ties fall by chance, so that equals share."""
        count = len(loads)
        if count < 2:
            return list(range(count))
        match self.strategy:
            case Strategy.ROUND_ROBIN:
                first, self._turn = self._turn % count, self._turn + 1
                return [(first + step) % count for step in range(count)]
            case Strategy.LEAST_CONNECTIONS:
                return self._ranked([load.inflight / load.weight for load in loads])
            case Strategy.WEIGHTED_RANDOM:
                return self._ranked([-math.log(1.0 - self._rng.uniform(0.0, 1.0)) / load.weight for load in loads])
            case Strategy.LATENCY_BASED:
                return self._ranked([_known(load.seconds) for load in loads])
            case Strategy.ADAPTIVE:
                return self._ranked([_known(load.seconds) * (load.inflight + 1) / load.weight for load in loads])
        assert_never(self.strategy)

    def _ranked(self, costs: Sequence[float]) -> list[int]:
        ties = self._rng.bits(_TIE_BITS * len(costs))
        mask = (1 << _TIE_BITS) - 1
        return sorted(range(len(costs)), key=lambda i: (costs[i], ties >> (_TIE_BITS * i) & mask))


def _known(seconds: float) -> float:
    return 0.0 if seconds <= 0 else max(SECONDS_MIN, seconds)
