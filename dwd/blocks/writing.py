"""Writing a block: all fragments at once, acknowledged when every one is durable somewhere that keeps the promise.

A destination that is down, fails, or is slow beside its siblings is replaced (`dwd.blocks.core.substitutes`); the row
names the replacement as a hand-off. Slow means past the device's p99 x 4, and only once half of the fragments have
landed: when everything is slow, writing more would not make it faster.

Invariants: nothing is acknowledged that would not survive one more loss; what a failed or hedged write may have left
goes to `Leftovers`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import chain

from dwd.base.blocks import Handoff, StoredBlock
from dwd.base.clock import Clock
from dwd.base.errors import Busy, Conflict, DeadlineExceeded, DwError, NoSpace
from dwd.base.ids import BlockId, DeviceId
from dwd.blocks.core.layout import Layout
from dwd.blocks.core.profiles import Profile
from dwd.blocks.core.substitutes import one_more_loss, substitute
from dwd.blocks.fragments import Fragments, PutFragment
from dwd.blocks.latency import Latencies
from dwd.blocks.topology import DeviceHealth, Topology
from dwd.blocks.volumes.fragment import FragmentKey
from dwd.observability import metrics
from dwd.runtime.files import Buffer
from dwd.runtime.tasks import Tasks

ATTEMPTS_MAX = 4
"""Devices tried for one fragment."""
LEFTOVERS_MAX = 10_000
NO_PLACEMENT = "blocks.no_placement"
"""Code of the refusal of a write that would not survive one more loss."""

_HANDOFFS = metrics.counter("dwd.blocks.handoffs", "Fragments written to another device than their own", "{fragment}")


class Leftovers:
    """Fragments that no row will name: deleted when somebody gets to it, found by the orphan sweep otherwise."""

    def __init__(self) -> None:
        self._queue: deque[tuple[DeviceId, FragmentKey]] = deque(maxlen=LEFTOVERS_MAX)

    def add(self, device: DeviceId, key: FragmentKey) -> None:
        self._queue.append((device, key))

    def take(self, limit: int) -> list[tuple[DeviceId, FragmentKey]]:
        return [self._queue.popleft() for _ in range(min(limit, len(self._queue)))]

    def __len__(self) -> int:
        return len(self._queue)


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A block cut up, ready to be sent."""

    block: BlockId
    profile: Profile
    length: int
    crc32c: int
    heads: Sequence[bytes]
    contents: Sequence[Buffer]


@dataclass(slots=True)
class _Sent:
    index: int
    device: DeviceId
    began: float
    slow_at: float


class BlockWriter:
    def __init__(
        self,
        *,
        topology: Topology,
        fragments: Fragments,
        latencies: Latencies,
        leftovers: Leftovers,
        tasks: Tasks,
        clock: Clock,
    ) -> None:
        self.topology, self.fragments, self.latencies = topology, fragments, latencies
        self.leftovers, self.tasks, self.clock = leftovers, tasks, clock

    async def write(self, encoded: Encoded, layout: Layout, deadline: float) -> StoredBlock:
        """Raises Busy (no placement survives one more loss), NoSpace, DeadlineExceeded."""
        return await _Writing(self, encoded, layout).run(deadline)

    def usable(self, device: DeviceId) -> bool:
        """Whether to ask it in the first place."""
        view = self.topology.devices().get(device)
        return view is not None and self.takes(device) and self.latencies.usable(device, came_back_ms=view.changed_ms)

    def takes(self, device: DeviceId) -> bool:
        """Whether it may be asked at all, even while its circuit breaker is open."""
        view = self.topology.devices().get(device)
        return view is not None and view.health is DeviceHealth.UP and view.writable


@dataclass(slots=True)
class _Writing:
    writer: BlockWriter
    encoded: Encoded
    layout: Layout
    _intended: tuple[DeviceId, ...] = ()
    _places: list[DeviceId] = field(default_factory=list)
    _landed: set[int] = field(default_factory=set)
    _active: dict[asyncio.Task[None], _Sent] = field(default_factory=dict)
    _tried: dict[int, list[DeviceId]] = field(default_factory=dict)
    _failed: set[DeviceId] = field(default_factory=set)
    _slow: set[DeviceId] = field(default_factory=set)
    _errors: list[DwError] = field(default_factory=list)
    _willing: Callable[[DeviceId], bool] | None = None
    """Who may be a substitute."""

    async def run(self, deadline: float) -> StoredBlock:
        self._intended = self.layout.places(self.encoded.block, self.encoded.profile.fragments)
        self._places = list(self._intended)
        try:
            self._replace_unusable()
            for index in range(len(self._places)):
                self._send(index, self._places[index], deadline)
            while len(self._landed) < len(self._places):
                await self._step(deadline)
        except BaseException:
            self._abandon(keep_intended=False)
            raise
        self._abandon(keep_intended=True)
        return self._row()

    def _replace_unusable(self) -> None:
        """By devices that answer; where those do not keep the promise, open circuit breakers are not heeded either."""
        try:
            self._choose(self.writer.usable)
        except DwError:
            self._choose(self.writer.takes)

    def _choose(self, willing: Callable[[DeviceId], bool]) -> None:
        self._willing = willing
        self._failed.clear()
        self._places = list(self._intended)
        for index, device in enumerate(self._intended):
            if not willing(device):
                self._failed.add(device)
                self._places[index] = self._substitute(index)
        if not self._tolerant(self._places):
            raise self._refusal()

    async def _step(self, deadline: float) -> None:
        now = self.writer.clock.monotonic()
        if now >= deadline:
            raise DeadlineExceeded("blocks.deadline", "the block could not be stored in time")
        hedging = 2 * len(self._landed) >= len(self._places)
        slow_at = min((s.slow_at for s in self._active.values()), default=deadline) if hedging else deadline
        done, _ = await asyncio.wait(
            self._active, timeout=max(0.0, min(deadline, slow_at) - now), return_when=asyncio.FIRST_COMPLETED
        )
        for task in done:
            self._take(task, self._active.pop(task), deadline)
        if hedging and not done:
            self._hedge(deadline)

    def _take(self, task: asyncio.Task[None], sent: _Sent, deadline: float) -> None:
        latencies = self.writer.latencies
        if task.cancelled():
            latencies.gave_up(sent.device)
            return
        error = task.exception()
        if error is None:
            latencies.answered(sent.device, sent.began, write=True)
            self._land(sent)
            return
        if not isinstance(error, DwError):
            latencies.gave_up(sent.device)
            raise error
        if isinstance(error, (NoSpace, Busy, Conflict)):
            latencies.gave_up(sent.device)
        else:
            latencies.failed(sent.device)
        self._errors.append(error)
        self._failed.add(sent.device)
        if sent.index not in self._landed and not any(s.index == sent.index for s in self._active.values()):
            self._places[sent.index] = self._substitute(sent.index)
            self._require_tolerance(sent.index)
            self._send(sent.index, self._places[sent.index], deadline)

    def _land(self, sent: _Sent) -> None:
        if sent.index in self._landed:
            return
        self._landed.add(sent.index)
        self._places[sent.index] = sent.device
        for task, other in list(self._active.items()):
            if other.index == sent.index:
                task.cancel()

    def _hedge(self, deadline: float) -> None:
        """Give what is slow a second destination, where there is one that keeps the promise."""
        now = self.writer.clock.monotonic()
        slow = [sent for sent in self._active.values() if sent.slow_at <= now]
        self._slow.update(sent.device for sent in slow)
        for sent in slow:
            sent.slow_at = deadline
            other = self._find(sent.index, avoid=self._slow)
            if other is not None and len(self._tried[sent.index]) < ATTEMPTS_MAX:
                places = [other if i == sent.index else d for i, d in enumerate(self._places)]
                if self._tolerant([*places, *self._second(sent.index)]):
                    self._send(sent.index, other, deadline)

    def _send(self, index: int, device: DeviceId, deadline: float) -> None:
        writer, encoded = self.writer, self.encoded
        self._tried.setdefault(index, []).append(device)
        began = writer.latencies.began(device)
        fragment = PutFragment(
            device=device,
            key=FragmentKey(encoded.block, index),
            layout_epoch=self.layout.epoch,
            head=encoded.heads[index],
            content=encoded.contents[index],
        )
        task = writer.tasks.spawn(writer.fragments.put(fragment, deadline=deadline), name="write")
        self._active[task] = _Sent(index, device, began, began + writer.latencies.write_slow_seconds(device))

    def _substitute(self, index: int) -> DeviceId:
        found = self._find(index) if len(self._tried.get(index, ())) < ATTEMPTS_MAX else None
        if found is None:
            raise self._refusal()
        return found

    def _find(self, index: int, *, avoid: Collection[DeviceId] = ()) -> DeviceId | None:
        devices = self.writer.topology.devices()
        order = self.layout.device_list(self.layout.partition_of(self.encoded.block))
        return substitute(
            index,
            [*self._places, *self._second(index)],
            dict.fromkeys(chain(order, sorted(devices))),
            {device: view.node for device, view in devices.items()},
            self._willing or self.writer.usable,
            avoid=frozenset(self._failed.union(avoid, self._tried.get(index, ()))),
        )

    def _second(self, besides: int) -> list[DeviceId]:
        """Second destinations under way: either may be the one that lands, so both count as taken."""
        under_way = [s for s in self._active.values() if s.index != besides and s.index not in self._landed]
        return [s.device for s in under_way if s.device != self._places[s.index]]

    def _require_tolerance(self, index: int) -> None:
        if not self._tolerant([*self._places, *self._second(index)]):
            raise self._refusal()

    def _tolerant(self, places: Sequence[DeviceId]) -> bool:
        nodes = {device: view.node for device, view in self.writer.topology.devices().items()}
        return one_more_loss(places, self._intended, nodes, self.encoded.profile.parity)

    def _refusal(self) -> DwError:
        if self._errors and all(isinstance(error, NoSpace) for error in self._errors):
            return NoSpace("blocks.no_space", "the devices that could take the block are full", hint="add capacity")
        reasons = ", ".join(sorted({error.code for error in self._errors})) or "devices are down"
        return Busy(
            NO_PLACEMENT,
            f"a block of {self.encoded.profile.scheme} stored now would not survive one more loss ({reasons})",
            hint="bring devices back, or use a profile that needs fewer",
        )

    def _abandon(self, *, keep_intended: bool) -> None:
        """Stop what is under way and note what may lie around without a row that names it."""
        for task, sent in self._active.items():
            task.cancel()
            self.writer.latencies.gave_up(sent.device)
        for index, devices in self._tried.items():
            for device in devices:
                used = index in self._landed and keep_intended and device == self._places[index]
                if not used and not (keep_intended and device == self._intended[index]):
                    self.writer.leftovers.add(device, FragmentKey(self.encoded.block, index))

    def _row(self) -> StoredBlock:
        handoffs = tuple(
            Handoff(index=index, device=device)
            for index, device in enumerate(self._places)
            if device != self._intended[index]
        )
        if handoffs:
            _HANDOFFS.add(len(handoffs))
        return StoredBlock(
            block=self.encoded.block,
            profile=self.encoded.profile.scheme,
            length=self.encoded.length,
            crc32c=self.encoded.crc32c,
            layout_epoch=self.layout.epoch,
            handoffs=handoffs,
        )
