"""Reading everything a device holds, as it lies, to find what rotted before somebody needs it.

Fragments are read in the order of their places, each from the device itself: the page cache is dropped around the read,
so that what is verified is the disk, and a pass does not push out what clients read. Every page is checked against its
checksum, every head against the index. What is bad is handed to `Findings`. An index that disagrees with itself is
rebuilt from the volumes.

Compaction moves fragments past the end of a pass only after it verified them, so nothing escapes both.

    scrub.json on the device: {"format": 1, "current": {...}, "last": {...}} (dwd.blocks.core.scrubbing.Pass)

Source: latent errors are found by reading (Bairavasundaram et al. 2007, "An Analysis of Latent Sector Errors in Disk
Drives"); most show in the first scrub after they arise.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, replace

from dwd.base.clock import Clock
from dwd.base.errors import Corrupt, DwError, StorageFailed
from dwd.base.units import GIB, MIB
from dwd.blocks.core.scrubbing import Pass, ScrubState
from dwd.blocks.device import Device
from dwd.blocks.device_facts import DeviceState
from dwd.blocks.findings import Findings
from dwd.blocks.volumes.fragment import FragmentKey
from dwd.blocks.volumes.index import IndexDamaged, Place
from dwd.blocks.volumes.volumes import Volumes, check

STATE = "scrub.json"
FORMAT = 1
PIECE_BYTES = 4 * MIB
PIECE_FRAGMENTS = 256
SAVE_SECONDS = 60.0
SAVE_BYTES = GIB
"""How much may be read again after a crash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Piece:
    """What one step read. `over`: nothing lies beyond."""

    segment: int
    offset: int
    size: int
    fragments: int
    bad: tuple[tuple[FragmentKey, DwError], ...]
    over: bool


class DeviceScrub:
    """Of one device, from its opening on."""

    def __init__(self, device: Device, findings: Findings, clock: Clock) -> None:
        self.device = device
        self.state = ScrubState()
        self._findings, self._clock = findings, clock
        self._loaded = False
        self._saved_at, self._saved_bytes = float("-inf"), 0
        self._rate = 0.0

    @property
    def rate(self) -> float:
        """Bytes a second of late."""
        return self._rate

    async def load(self) -> None:
        """What an earlier daemon noted; nothing when it cannot be read: then a pass begins anew."""
        if not self._loaded:
            self.state = await self.device.run(self._read_state)
            self._loaded = True

    async def begin(self, *, order: str = "", full_speed: bool = False) -> None:
        volumes = self.device.volumes
        if self.device.state is DeviceState.OPEN:
            await volumes.flush()
        uses = await volumes.run(volumes.index.uses)
        total = sum(use.bytes for use in uses.values())
        self.state = self.state.begin(self._clock.unix_ms(), total, order=order, full_speed=full_speed)
        self._rate = 0.0
        await self.save()

    def release(self) -> None:
        """Nobody waits for the pass any more: it goes on as one that was due."""
        self.state = replace(self.state, current=replace(self.state.current, order="", full_speed=False))

    async def step(self) -> int:
        """Read and verify the next few megabytes; their size. Raises StorageFailed, Unavailable."""
        volumes, current = self.device.volumes, self.state.current
        began = self._clock.monotonic()
        if self.device.state is DeviceState.OPEN:
            await volumes.flush()
        piece = await volumes.run(lambda: _read(volumes, current))
        self._note(piece, current, self._clock.monotonic() - began)
        for key, error in piece.bad:
            told = self.device.unreadable(key, error) if isinstance(error, StorageFailed) else error
            self._findings.add(self.device.id, key, f"scrub:{told.code}")
        if piece.over:
            self.state = self.state.end(self._clock.unix_ms())
            await self.save()
        elif (
            self._clock.monotonic() - self._saved_at >= SAVE_SECONDS
            or self.state.current.done_bytes - self._saved_bytes >= SAVE_BYTES
        ):
            await self.save()
        return piece.size

    def _note(self, piece: _Piece, current: Pass, seconds: float) -> None:
        done = current.done_bytes + piece.size
        self.state = replace(
            self.state,
            current=replace(
                current,
                segment=piece.segment,
                offset=piece.offset,
                done_bytes=done,
                total_bytes=max(current.total_bytes, done),
                fragments=current.fragments + piece.fragments,
                found=current.found + len(piece.bad),
            ),
        )
        if piece.size and seconds > 0:
            measured = piece.size / seconds
            self._rate = measured if not self._rate else self._rate + 0.2 * (measured - self._rate)

    async def save(self) -> None:
        """On a device that takes no writes it is kept in memory."""
        self._saved_at, self._saved_bytes = self._clock.monotonic(), self.state.current.done_bytes
        if self.device.state is DeviceState.OPEN:
            content = {"format": FORMAT, **dataclasses.asdict(self.state)}
            path = self.device.path / STATE
            await self.device.run(lambda: self.device.files.write_durably(path, json.dumps(content).encode() + b"\n"))

    def _read_state(self) -> ScrubState:
        try:
            raw = json.loads(self.device.files.read(self.device.path / STATE))
            if raw["format"] != FORMAT:
                return ScrubState()
            return ScrubState(current=Pass(**raw["current"]), last=Pass(**raw["last"]))
        except (DwError, ValueError, KeyError, TypeError):
            return ScrubState()


def _read(volumes: Volumes, current: Pass) -> _Piece:
    """On a worker thread."""
    segment, offset = current.segment, current.offset
    entries = volumes.index.lying(segment, offset, PIECE_FRAGMENTS) if segment else []
    while not entries:
        if segment:
            volumes.index.verify_volume(segment)
        following = [number for number in volumes.index.uses() if number > segment]
        if not following:
            return _Piece(segment=segment, offset=offset, size=0, fragments=0, bad=(), over=True)
        segment = min(following)
        entries = volumes.index.lying(segment, 0, PIECE_FRAGMENTS)
    bad: list[tuple[FragmentKey, DwError]] = []
    size = fragments = 0
    for key, place in entries:
        if size >= PIECE_BYTES:
            break
        size, fragments, offset = size + place.bytes, fragments + 1, place.offset + 1
        error = _verify(volumes, key, place)
        if error is not None:
            bad.append((key, error))
    return _Piece(segment=segment, offset=offset, size=size, fragments=fragments, bad=tuple(bad), over=False)


def _verify(volumes: Volumes, key: FragmentKey, place: Place) -> DwError | None:
    """What is wrong with the fragment at its place; nothing when it is no longer there."""
    try:
        with volumes.open_files.reading(place.segment) as file:
            file.drop_cache(place.offset, place.bytes)
            content = file.read_at(place.offset, place.bytes)
            file.drop_cache(place.offset, place.bytes)
        check(key, place, content)
    except (Corrupt, StorageFailed) as error:
        return error if volumes.place_of(key) == place else None
    index = volumes.index
    if index.find(key) != place and index.lying(place.segment, place.offset, 1) == [(key, place)]:
        raise IndexDamaged("blocks.index_damaged", "a fragment is found by its place and not by its name")
    return None
