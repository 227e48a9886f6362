"""What the devices really hold of given blocks: asked of them, not taken from rows or reports."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from dwd.base.blocks import StoredBlock
from dwd.base.clock import Clock
from dwd.base.errors import DwError
from dwd.base.ids import BlockId, DeviceId
from dwd.blocks.core.profiles import parse_scheme
from dwd.blocks.fragments import BLOCKS_ASKED_MAX, Fragments, HeldFragment
from dwd.blocks.reading import locations
from dwd.blocks.topology import DeviceHealth, Topology

ASKS_AT_ONCE = 16
ASK_SECONDS = 10.0


class FragmentState(Enum):
    SOUND = "sound"
    BAD = "bad"
    """There, but a page fails its checksum."""
    MISSING = "missing"
    AWAY = "away"
    """Its device does not answer; nobody can say."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockState:
    """`fragments[i]`: device and state of fragment i; device None: it is nowhere."""

    stored: StoredBlock
    fragments: tuple[tuple[DeviceId | None, FragmentState], ...]

    @property
    def redundant(self) -> bool:
        """Every fragment is where the row says and sound, and none is on loan."""
        return not self.stored.needs_repair and all(s is FragmentState.SOUND for _, s in self.fragments)

    @property
    def losses_left(self) -> int:
        """How many more fragments may be lost; negative: not readable now."""
        sound = sum(state is FragmentState.SOUND for _, state in self.fragments)
        return sound - parse_scheme(self.stored.profile).data


class Recount:
    def __init__(self, *, topology: Topology, fragments: Fragments, clock: Clock) -> None:
        self._topology, self._fragments, self._clock = topology, fragments, clock

    async def recount(self, rows: Sequence[StoredBlock], *, verify: bool, deadline: float) -> list[BlockState]:
        """The state of each block, in order. Raises Unavailable for layouts unknown here."""
        where = [locations(self._topology, row) for row in rows]
        asked: dict[DeviceId, list[BlockId]] = {}
        for row, places in zip(rows, where, strict=True):
            for device in set(places.values()):
                asked.setdefault(device, []).append(row.block)
        held = await self.ask(asked, verify=verify, deadline=deadline)
        return [_state(row, places, held) for row, places in zip(rows, where, strict=True)]

    async def ask(
        self, asked: Mapping[DeviceId, Sequence[BlockId]], *, verify: bool, deadline: float
    ) -> dict[DeviceId, dict[tuple[BlockId, int], HeldFragment] | None]:
        """What each device holds of the blocks it is asked for; None: it does not answer."""
        gate = asyncio.Semaphore(ASKS_AT_ONCE)
        answers: dict[DeviceId, dict[tuple[BlockId, int], HeldFragment] | None] = {}

        async def one(device: DeviceId, blocks: Sequence[BlockId]) -> None:
            view = self._topology.devices().get(device)
            answers[device] = None
            if view is None or view.health is not DeviceHealth.UP:
                return
            found: dict[tuple[BlockId, int], HeldFragment] = {}
            async with gate:
                try:
                    for at in range(0, len(blocks), BLOCKS_ASKED_MAX):
                        piece = blocks[at : at + BLOCKS_ASKED_MAX]
                        until = min(deadline, self._clock.monotonic() + ASK_SECONDS) if not verify else deadline
                        for fragment in await self._fragments.held(device, piece, verify=verify, deadline=until):
                            found[fragment.key.block, fragment.key.index] = fragment
                except DwError:
                    return
            answers[device] = found

        async with asyncio.TaskGroup() as group:
            for device, blocks in asked.items():
                _ = group.create_task(one(device, blocks))
        return answers


def _state(
    row: StoredBlock,
    places: Mapping[int, DeviceId],
    held: Mapping[DeviceId, Mapping[tuple[BlockId, int], HeldFragment] | None],
) -> BlockState:
    fragments: list[tuple[DeviceId | None, FragmentState]] = []
    for index in range(parse_scheme(row.profile).fragments):
        device = places.get(index)
        if device is None:
            fragments.append((None, FragmentState.MISSING))
            continue
        answer = held.get(device)
        if answer is None:
            fragments.append((device, FragmentState.AWAY))
            continue
        found = answer.get((row.block, index))
        state = FragmentState.MISSING if found is None else FragmentState.SOUND
        fragments.append((device, FragmentState.BAD if found is not None and found.sound is False else state))
    return BlockState(stored=row, fragments=tuple(fragments))
