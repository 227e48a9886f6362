"""How repair reads blocks: for another purpose than clients, which the devices pace, and without impatience: a device
that makes repair wait is doing what it should, so no second one is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from dwd.base.balance import Balancer
from dwd.base.clock import Clock
from dwd.base.ids import BlockId, DeviceId
from dwd.blocks.fragments import CopyKey, Fetched, Fragments, HeldFragment, Purpose, PutFragment
from dwd.blocks.latency import Latencies
from dwd.blocks.reading import BlockReader
from dwd.blocks.reports import Reports
from dwd.blocks.topology import Topology
from dwd.blocks.volumes.fragment import FragmentKey
from dwd.runtime.tasks import Tasks


class PatientLatencies(Latencies):
    """None is ever slow."""

    def read_hedge_seconds(self, device: DeviceId) -> float:  # noqa: ARG002
        return inf

    def sluggish(self, device: DeviceId) -> bool:  # noqa: ARG002
        return False


class PacedFragments:
    """`Fragments` whose reads say what they are for."""

    def __init__(self, fragments: Fragments, purpose: Purpose) -> None:
        self._fragments, self._purpose = fragments, purpose

    async def put(self, fragment: PutFragment, *, deadline: float) -> None:
        await self._fragments.put(fragment, deadline=deadline)

    async def get(
        self,
        device: DeviceId,
        key: FragmentKey,
        *,
        offset: int,
        length: int,
        deadline: float,
        purpose: Purpose = Purpose.CLIENT,  # noqa: ARG002 - whoever reads through this has one purpose
    ) -> Fetched:
        return await self._fragments.get(
            device, key, offset=offset, length=length, deadline=deadline, purpose=self._purpose
        )

    async def delete(self, device: DeviceId, keys: Sequence[FragmentKey], *, deadline: float) -> None:
        await self._fragments.delete(device, keys, deadline=deadline)

    async def delete_copies(self, device: DeviceId, copies: Sequence[CopyKey], *, deadline: float) -> None:
        await self._fragments.delete_copies(device, copies, deadline=deadline)

    async def delete_leftovers(self, device: DeviceId, keys: Sequence[FragmentKey], *, deadline: float) -> None:
        await self._fragments.delete_leftovers(device, keys, deadline=deadline)

    async def held(
        self, device: DeviceId, blocks: Sequence[BlockId], *, verify: bool, deadline: float
    ) -> tuple[HeldFragment, ...]:
        return await self._fragments.held(device, blocks, verify=verify, deadline=deadline)


def repair_reader(
    *,
    topology: Topology,
    fragments: Fragments,
    reports: Reports,
    tasks: Tasks,
    clock: Clock,
    balancer: Balancer,
    purpose: Purpose,
) -> BlockReader:
    return BlockReader(
        topology=topology,
        fragments=PacedFragments(fragments, purpose),
        latencies=PatientLatencies(clock),
        reports=reports,
        tasks=tasks,
        clock=clock,
        balancer=balancer,
    )
