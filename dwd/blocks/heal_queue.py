"""What is to be healed next, over all shards led here: most urgent first, bounded, one entry a block; what is parked.

Losing an entry loses nothing: metadata is the authority, and the walk finds the same again.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count

from dwd.base.clock import Clock
from dwd.base.ids import BlockId, GroupId
from dwd.blocks.core.needs import Cause, Urgency
from dwd.meta.core.shard.rows import OwnedBlock

QUEUE_MAX = 8_192
PARKED_MAX = 10_000
PARKED_SECONDS = 5.0
PARKED_SECONDS_MAX = 600.0
"""Each time in vain a block rests twice as long: what cannot be healed now must not be read over and over."""
PARKED_DOUBLINGS_MAX = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """A block to be healed. `since_ms`: since when it needs it, as far as this leader knows."""

    group: GroupId
    owned: OwnedBlock
    cause: Cause
    urgency: Urgency
    margin: int
    since_ms: int

    @property
    def block(self) -> BlockId:
        return self.owned.stored.block

    @property
    def rank(self) -> tuple[int, int]:
        return (self.urgency, self.margin)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """A block that could not be made whole, why, since when, and when to try again (monotonic seconds)."""

    item: Item
    code: str
    reason: str
    since_ms: int
    again_at: float
    tries: int


class HealQueue:
    """On one event loop."""

    def __init__(self, clock: Clock, on_offer: Callable[[], None] | None = None) -> None:
        self._clock = clock
        self._items: dict[BlockId, tuple[Item, int]] = {}
        self._heap: list[tuple[tuple[int, int], int, BlockId]] = []
        self._numbers = count()
        self._working: set[BlockId] = set()
        self.parked: dict[BlockId, Parked] = {}
        self.on_offer = on_offer

    def __len__(self) -> int:
        return len(self._items)

    def offer(self, item: Item) -> bool:
        """Take it in unless it is parked or being worked on. False: there is no room among the more urgent ones."""
        block = item.block
        rests = self.parked.get(block)
        if block in self._working or (rests is not None and rests.again_at > self._clock.monotonic()):
            return True
        known = self._items.get(block)
        if known is not None:
            if known[0].rank == item.rank:
                self._items[block] = (item, known[1])
                return True
            del self._items[block]
        if len(self._items) >= QUEUE_MAX and not self._make_room(item):
            return False
        number = next(self._numbers)
        self._items[block] = (item, number)
        heapq.heappush(self._heap, (item.rank, number, block))
        if self.on_offer is not None:
            self.on_offer()
        return True

    def take(self) -> Item | None:
        """The most urgent; it is being worked on until `done`."""
        while self._heap:
            _, number, block = heapq.heappop(self._heap)
            found = self._items.get(block)
            if found is not None and found[1] == number:
                del self._items[block]
                self._working.add(block)
                return found[0]
        return None

    def done(self, item: Item) -> None:
        self._working.discard(item.block)

    def keep(self, groups: Iterable[GroupId]) -> None:
        """What other nodes lead is their work."""
        kept = set(groups)
        for block in [b for b, (item, _) in self._items.items() if item.group not in kept]:
            del self._items[block]
        for block in [b for b, rests in self.parked.items() if rests.item.group not in kept]:
            del self.parked[block]

    def park(self, item: Item, code: str, reason: str) -> Parked:
        before = self.parked.pop(item.block, None)
        if len(self.parked) >= PARKED_MAX:
            self.parked.pop(next(iter(self.parked)))
        tries = before.tries + 1 if before is not None else 0
        rest = min(PARKED_SECONDS_MAX, PARKED_SECONDS * 2 ** min(tries, PARKED_DOUBLINGS_MAX))
        since = before.since_ms if before is not None else self._clock.unix_ms()
        parked = self.parked[item.block] = Parked(
            item=item, code=code, reason=reason, since_ms=since, again_at=self._clock.monotonic() + rest, tries=tries
        )
        return parked

    def unpark(self, block: BlockId | None = None) -> int:
        """One, or all: they are offered again at once. How many."""
        chosen = list(self.parked) if block is None else [block] if block in self.parked else []
        for found in chosen:
            _ = self.offer(self.parked.pop(found).item)
        return len(chosen)

    def due(self) -> int:
        """Offer those whose rest is over. How many."""
        now = self._clock.monotonic()
        over = [rests.item for rests in self.parked.values() if rests.again_at <= now and rests.item.block not in self]
        return sum(self.offer(item) for item in over)

    def __contains__(self, block: object) -> bool:
        return block in self._items or block in self._working

    def _make_room(self, item: Item) -> bool:
        """Drop the least urgent for something more urgent."""
        if item.urgency is Urgency.MOVE:
            return False
        worst = max(self._items.values(), key=lambda found: (found[0].rank, found[1]))[0]
        if worst.rank <= item.rank:
            return False
        del self._items[worst.block]
        return True
