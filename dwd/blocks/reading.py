"""Reading a block: the fragments that suffice, from where they come fastest, never a wrong byte.

As long as the data fragments that hold the wanted range answer, only their bytes are fetched and nothing is decoded.
Once one of them fails, is wrong, or is slower than its device's p95, further fragments are asked for the same columns
and any K of them rebuild the range. Fragments on a device that is sluggish beside the others are left for last from the
start; one small probe a second finds out when it is well again. Which of equals is asked, the balancing strategy says.
What is found missing or wrong is reported to repair.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dwd.base.balance import Balancer
from dwd.base.blocks import StoredBlock
from dwd.base.clock import Clock
from dwd.base.errors import Busy, Corrupt, DeadlineExceeded, DwError, NotFound, Unavailable
from dwd.base.ids import DeviceId
from dwd.blocks.codec import Piece, pieces_of, rebuild
from dwd.blocks.core.profiles import Kind, Profile, parse_scheme
from dwd.blocks.fragments import Fetched, Fragments
from dwd.blocks.latency import Latencies
from dwd.blocks.ports import Owner
from dwd.blocks.reports import Reports
from dwd.blocks.topology import DeviceHealth, Topology
from dwd.blocks.volumes.fragment import FragmentHead, FragmentKey
from dwd.journal.checksum import crc32c
from dwd.observability import metrics
from dwd.runtime.files import Buffer
from dwd.runtime.tasks import Tasks

LAYOUT_SECONDS = 5.0
"""How long a read waits for this node to learn of a layout that a row names."""
LAYOUT_LOOK_SECONDS = 0.02
PROBE_DEADLINE_SECONDS = 10.0

_DEGRADED = metrics.counter("dwd.blocks.reads.degraded", "Reads that needed other fragments than the first choice", "1")


def locations(topology: Topology, block: StoredBlock) -> dict[int, DeviceId]:
    """Where each fragment is, by its row. Raises Unavailable for a layout this node does not know (yet)."""
    layout = topology.layout_of(block.layout_epoch)
    if layout is None:
        raise Unavailable("blocks.layout_unknown", f"layout {block.layout_epoch} is not known here")
    where = dict(enumerate(layout.places(block.block, parse_scheme(block.profile).fragments)))
    where.update({handoff.index: handoff.device for handoff in block.handoffs})
    for index in block.missing:
        where.pop(index, None)
    return where


def mismatch(head: FragmentHead, block: StoredBlock) -> bool:
    """Whether a fragment tells another story than the block's row: stale, swapped, or of another block."""
    return (
        head.key.block != block.block
        or head.scheme != block.profile
        or head.block_length != block.length
        or head.block_crc32c != block.crc32c
    )


class BlockReader:
    def __init__(
        self,
        *,
        topology: Topology,
        fragments: Fragments,
        latencies: Latencies,
        reports: Reports,
        tasks: Tasks,
        clock: Clock,
        balancer: Balancer,
    ) -> None:
        self.topology, self.fragments, self.latencies = topology, fragments, latencies
        self.reports, self.tasks, self.clock = reports, tasks, clock
        self._balancer = balancer

    async def read(
        self, block: StoredBlock, *, owner: Owner, offset: int, length: int, deadline: float
    ) -> list[memoryview]:
        """As BlockStore.read."""
        if length <= 0 or offset >= block.length:
            return []
        await self._know_layout(block, deadline)
        profile = parse_scheme(block.profile)
        pieces = pieces_of(profile, block.length, offset, length)
        suspects: list[int] = [-1]
        for suspect in suspects:
            gathering = _Gathering(self, block, owner, profile, pieces, frozenset((suspect,)))
            views = await gathering.run(deadline)
            if offset > 0 or length < block.length or _checksum(views) == block.crc32c:
                if suspect >= 0:
                    self.reports.add(block, owner, suspect, "wrong")
                return views
            suspects.extend(index for index in gathering.used if index not in suspects)
        raise Corrupt("blocks.block_checksum", f"block {block.block.hex()} fails its checksum", block=block.block.hex())

    async def _know_layout(self, block: StoredBlock, deadline: float) -> None:
        """A row may name a layout that this node's copy of control is about to learn of: wait for it a little."""
        until = min(deadline, self.clock.monotonic() + LAYOUT_SECONDS)
        known = self.topology.layout_of(block.layout_epoch) is not None
        while not known and self.clock.monotonic() < until:
            await asyncio.sleep(LAYOUT_LOOK_SECONDS)
            known = self.topology.layout_of(block.layout_epoch) is not None

    def order(self, where: Mapping[int, DeviceId]) -> list[int]:
        """Fragment indexes, best source first: answering, not sluggish, near, then as the strategy says."""
        devices, local = self.topology.devices(), self.topology.local_node
        indexes = list(where)
        loads = []
        for index in indexes:
            view = devices.get(where[index])
            loads.append(self.latencies.load(where[index], float(max(1, view.weight)) if view is not None else 1.0))
        rank = {indexes[at]: position for position, at in enumerate(self._balancer.order(loads))}

        def cost(index: int) -> tuple[bool, bool, bool, int]:
            device = where[index]
            view = devices.get(device)
            return (
                not self.answers(device),
                self.latencies.sluggish(device),
                view is None or view.node != local,
                rank[index],
            )

        return sorted(where, key=cost)

    def answers(self, device: DeviceId) -> bool:
        view = self.topology.devices().get(device)
        return (
            view is not None
            and view.health is DeviceHealth.UP
            and self.latencies.usable(device, came_back_ms=view.changed_ms)
        )

    def probe_if_due(self, device: DeviceId, key: FragmentKey) -> None:
        """See beside the reads how slow a slow device really is, and when it is well again."""
        if self.answers(device) and self.latencies.probe(device):
            _ = self.tasks.spawn(self._probe(device, key), name="probe")

    async def _probe(self, device: DeviceId, key: FragmentKey) -> None:
        """Ask for a byte."""
        began = self.latencies.began(device)
        deadline = self.clock.monotonic() + PROBE_DEADLINE_SECONDS
        try:
            await self.fragments.get(device, key, offset=0, length=1, deadline=deadline)
        except (NotFound, Corrupt):
            self.latencies.answered(device, began, write=False)
        except Busy:
            self.latencies.gave_up(device)
        except DwError:
            self.latencies.failed(device)
        except BaseException:
            self.latencies.gave_up(device)
            raise
        else:
            self.latencies.answered(device, began, write=False)


@dataclass(slots=True)
class _Request:
    index: int
    start: int
    end: int
    device: DeviceId
    began: float
    slow_at: float


@dataclass(slots=True)
class _Gathering:
    """One read under way. Columns [lo, hi) are the hull of the wanted ranges inside their fragments."""

    reader: BlockReader
    block: StoredBlock
    owner: Owner
    profile: Profile
    pieces: Sequence[Piece]
    excluded: frozenset[int]
    used: list[int] = field(default_factory=list)
    _active: dict[asyncio.Task[Fetched], _Request] = field(default_factory=dict)
    _got: dict[int, tuple[int, int, memoryview]] = field(default_factory=dict)
    _tried: set[int] = field(default_factory=set)
    _errors: list[DwError] = field(default_factory=list)
    _where: dict[int, DeviceId] = field(default_factory=dict)
    _hull: tuple[int, int] = (0, 0)
    _degraded: bool = False

    async def run(self, deadline: float) -> list[memoryview]:
        self._where = {
            i: d for i, d in locations(self.reader.topology, self.block).items() if i not in self.excluded
        }  # fmt: skip
        self._hull = (min(p.start for p in self.pieces), max(p.end for p in self.pieces))
        latencies = self.reader.latencies
        try:
            self._begin(deadline)
            while not (self._direct() or self._sufficient()):
                await self._step(deadline)
            for request in self._active.values():
                latencies.overtaken(request.device, request.began)
                self.reader.probe_if_due(request.device, FragmentKey(self.block.block, request.index))
        except BaseException:
            for request in self._active.values():
                latencies.gave_up(request.device)
            raise
        finally:
            for task in self._active:
                task.cancel()
        return self._assemble()

    def _begin(self, deadline: float) -> None:
        wanted = [(p, self._where.get(p.index)) for p in self.pieces]
        sluggish = self._sluggish()
        direct = self.profile.kind is Kind.REED_SOLOMON
        if direct and all(d is not None and d not in sluggish and self.reader.answers(d) for _, d in wanted):
            for piece, _ in wanted:
                padded = self._hull[1] - piece.end < self.profile.data  # the last fragment: take its few zeros too
                self._ask(piece.index, piece.start, self._hull[1] if padded else piece.end, deadline)
            return
        self._degraded = direct
        self._widen(deadline, slow=0)

    def _sluggish(self) -> set[DeviceId]:
        """Which devices of the block are; those whose time has come are probed beside this read."""
        reader, found = self.reader, set()
        for index, device in self._where.items():
            if reader.latencies.sluggish(device):
                found.add(device)
                reader.probe_if_due(device, FragmentKey(self.block.block, index))
        return found

    async def _step(self, deadline: float) -> None:
        """Wait for an answer or for something to become slow, and act on it."""
        if not self._active:
            raise self._hopeless()
        now = self.reader.clock.monotonic()
        if now >= deadline:
            raise DeadlineExceeded("blocks.deadline", "the block could not be read in time")
        hedge_at = min((r.slow_at for r in self._active.values() if r.slow_at > now), default=deadline)
        done, _ = await asyncio.wait(
            self._active, timeout=min(deadline, hedge_at) - now, return_when=asyncio.FIRST_COMPLETED
        )  # fmt: skip
        failed = False
        for task in done:
            failed |= not self._take(task, self._active.pop(task))
        now = self.reader.clock.monotonic()
        slow = sum(request.slow_at <= now for request in self._active.values())
        self._degraded |= self.profile.kind is Kind.REED_SOLOMON and (failed or slow > 0)
        if self._degraded or failed or slow:
            self._widen(deadline, slow=slow)

    def _take(self, task: asyncio.Task[Fetched], request: _Request) -> bool:
        """File an answer; False: it is of no use."""
        error = None if task.cancelled() else task.exception()
        if task.cancelled():
            self.reader.latencies.gave_up(request.device)
            return False
        if error is None and _fits(task.result(), request, self.block):
            self.reader.latencies.answered(request.device, request.began, write=False)
            known = self._got.get(request.index)
            if known is None or request.end - request.start > known[1] - known[0]:
                self._got[request.index] = (request.start, request.end, task.result().content)
            return True
        if error is not None and not isinstance(error, DwError):
            self.reader.latencies.gave_up(request.device)
            raise error
        if isinstance(error, (NotFound, Corrupt)) or error is None:
            self.reader.latencies.answered(request.device, request.began, write=False)
            cause = "missing" if isinstance(error, NotFound) else "corrupt" if error is not None else "stale"
            self.reader.reports.add(self.block, self.owner, request.index, cause)
        elif isinstance(error, Busy):
            self.reader.latencies.gave_up(request.device)
        else:
            self.reader.latencies.failed(request.device)
        self._errors.append(error or Corrupt("blocks.fragment_stale", "a fragment is not of this block"))
        return False

    def _widen(self, deadline: float, *, slow: int) -> None:
        """Ask further fragments for the hull until as many as needed are at hand or coming (slow ones not counted)."""
        lo, hi = self._hull
        full = sum(start <= lo and end >= hi for start, end, _ in self._got.values())
        coming = sum(r.start <= lo and r.end >= hi for r in self._active.values())
        needed = self.profile.data + slow - full - coming
        for index in self.reader.order(self._where):
            if needed <= 0:
                break
            covered = index in self._got and self._got[index][0] <= lo and self._got[index][1] >= hi
            if not covered and (index, lo, hi) not in {(r.index, r.start, r.end) for r in self._active.values()}:
                if index in self._tried and index not in self._got:
                    continue
                self._ask(index, lo, hi, deadline)
                needed -= 1
        if not self._active and not self._direct() and not self._sufficient():
            raise self._hopeless()

    def _ask(self, index: int, start: int, end: int, deadline: float) -> None:
        device = self._where[index]
        self._tried.add(index)
        reader = self.reader
        began = reader.latencies.began(device)
        task = reader.tasks.spawn(
            reader.fragments.get(
                device, FragmentKey(self.block.block, index), offset=start, length=end - start, deadline=deadline
            ),
            name="read",
        )
        slow_at = began + reader.latencies.read_hedge_seconds(device)
        self._active[task] = _Request(index, start, end, device, began, slow_at)

    def _direct(self) -> bool:
        """Whether every wanted piece is at hand as it is."""
        return all(
            p.index in self._got and self._got[p.index][0] <= p.start and self._got[p.index][1] >= p.end
            for p in self.pieces
        ) and (self.profile.kind is Kind.REED_SOLOMON or 0 in self._got)

    def _sufficient(self) -> bool:
        return len(self._full()) >= self.profile.data

    def _full(self) -> dict[int, Buffer]:
        lo, hi = self._hull
        return {i: v[lo - s : hi - s] for i, (s, e, v) in self._got.items() if s <= lo and e >= hi}

    def _assemble(self) -> list[memoryview]:
        self.used = list(self._got)
        if self._direct():
            return [self._got[p.index][2][p.start - self._got[p.index][0] :][: p.end - p.start] for p in self.pieces]
        if self._degraded:
            _DEGRADED.add(1)
        lo = self._hull[0]
        columns = rebuild(self.profile, self._full(), [p.index for p in self.pieces])
        return [
            memoryview(column)[p.start - lo : p.end - lo] for p, column in zip(self.pieces, columns, strict=True)
        ]  # fmt: skip

    def _hopeless(self) -> DwError:
        kinds = {error.code for error in self._errors}
        lost = all(isinstance(error, (NotFound, Corrupt)) for error in self._errors) and self._errors
        kind = Corrupt if lost else Unavailable
        return kind(
            "blocks.unreadable",
            f"block {self.block.block.hex()}: {len(self._got)} of {self.profile.data} fragments can be had "
            f"({', '.join(sorted(kinds)) or 'no device answers'})",
            block=self.block.block.hex(),
        )


def _fits(got: Fetched, request: _Request, block: StoredBlock) -> bool:
    """Whether an answer is of this block, this fragment and all that was asked for."""
    if mismatch(got.head, block) or got.head.key.index != request.index:
        return False
    return len(got.content) == request.end - request.start


def _checksum(views: Sequence[memoryview]) -> int:
    crc = 0
    for view in views:
        crc = crc32c(view, crc)
    return crc
