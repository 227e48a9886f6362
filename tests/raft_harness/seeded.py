"""A small seeded generator (SplitMix64; Steele et al. 2014): the same on every Python version."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")
_MASK = (1 << 64) - 1


class SeededRng:
    """Implements dwd.base.clock.Rng."""

    def __init__(self, seed: int) -> None:
        self._state = seed & _MASK

    def bits(self, count: int) -> int:
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        z = self._state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
        return (z ^ (z >> 31)) >> (64 - count)

    def below(self, bound: int) -> int:
        return self.bits(62) % bound

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * self.bits(53) / (1 << 53)

    def token_bytes(self, count: int) -> bytes:
        return bytes(self.bits(8) for _ in range(count))

    def chance(self, probability: float) -> bool:
        return self.uniform(0, 1) < probability

    def choose(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]
