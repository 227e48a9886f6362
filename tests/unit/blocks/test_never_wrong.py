"""Real devices, a real reader, and fragments that lie: whatever is damaged, what is read is right or refused."""

from __future__ import annotations

import random  # noqa: TID251 - seeded, in a test
from dataclasses import replace
from pathlib import Path

import pytest

from dwd.base.blocks import StoredBlock
from dwd.base.errors import DwError
from dwd.base.ids import NodeId
from dwd.base.policy import Policy
from dwd.blocks.core.profiles import parse_scheme
from dwd.blocks.device import Device
from dwd.blocks.fragments import PutFragment
from dwd.blocks.ports import Owner
from dwd.blocks.reading import locations
from dwd.blocks.store import encode_block
from dwd.blocks.volumes.fragment import PAGE_BYTES, FragmentKey
from dwd.blocks.writing import Encoded
from tests.twins.memory_blocks import MemoryCluster

OWNER = Owner(bucket="b", key="k")
PROFILES = ("replica-2", "replica-3", "rs-2-1", "rs-4-2", "raid6-2", "raidz3-3", "rs-3-2")
KINDS = ("flipped", "head", "gone", "swapped", "stale", "other-profile", "truncated", "other-block")


class Damage:
    """Ways to make fragment `index` of a block lie."""

    def __init__(self, cluster: MemoryCluster, row: StoredBlock, data: bytes, chance: random.Random) -> None:
        self.cluster, self.row, self.chance = cluster, row, chance
        self.layout = cluster.topology.layouts[-1]
        self.profile = parse_scheme(row.profile)
        self.true = self.encoded(data)
        other = bytearray(data)
        other[chance.randrange(len(other))] ^= 1 + chance.randrange(255)
        self.other = self.encoded(bytes(other))
        self.where = locations(cluster.stores[NodeId(1)].reader.topology, row)
        self.data = data

    def encoded(self, data: bytes, scheme: str = "") -> Encoded:
        profile = parse_scheme(scheme) if scheme else self.profile
        return encode_block(self.row.block, profile, data, self.layout, OWNER)

    def device(self, index: int) -> Device:
        return self.cluster.device(self.where[index])

    async def do(self, kind: str, index: int) -> None:
        key, device = FragmentKey(self.row.block, index), self.device(index)
        n = self.profile.fragments
        match kind:
            case "flipped" | "head":
                self._flip(device, key, in_head=kind == "head")
            case "gone":
                await device.delete([key])
            case "swapped":
                await self._put(device, key, self.true, (index + 1) % n)
            case "stale":
                await self._put(device, key, self.other, index)
            case "other-profile":
                scheme = "rs-5-1" if self.profile.data != 5 else "rs-2-2"
                await self._put(device, key, self.encoded(self.data, scheme), index % 4)
            case "truncated":
                await self._put(device, key, self.encoded(self.data[: max(1, len(self.data) // 2)]), index)
            case "other-block":
                strange = replace(self.row, block=type(self.row.block)(bytes(reversed(self.row.block))))
                made = encode_block(strange.block, self.profile, self.data, self.layout, OWNER)
                await self._put(device, key, made, index)

    async def _put(self, device: Device, key: FragmentKey, encoded: Encoded, index: int) -> None:
        """The record of another fragment under this one's key."""
        await device.put(
            [
                PutFragment(
                    device=device.id,
                    key=key,
                    layout_epoch=self.layout.epoch,
                    head=encoded.heads[index],
                    content=encoded.contents[index],
                )
            ]
        )

    def _flip(self, device: Device, key: FragmentKey, *, in_head: bool) -> None:
        place = device.volumes.place_of(key)
        assert place is not None
        size = place.head if in_head else max(place.length, 1)
        at = place.offset + (0 if in_head else place.head) + self.chance.randrange(size)
        with device.volumes.policy.path(place.segment).open("r+b") as file:
            file.seek(at)
            byte = file.read(1)
            file.seek(at)
            file.write(bytes((byte[0] ^ (1 << self.chance.randrange(8)),)))


async def answer(cluster: MemoryCluster, row: StoredBlock, offset: int, length: int, *, tries: int) -> bytes:
    """What may pass by itself is tried again: the machine may be busy."""
    while True:
        tries -= 1
        try:
            views = await cluster.stores[NodeId(1)].read(
                row, owner=OWNER, offset=offset, length=length, deadline=cluster.soon
            )
        except DwError as error:
            if not (error.retryable and tries):
                raise
            continue
        return b"".join(views)


async def never_wrong(path: Path, seeds: range) -> None:
    read = refused = 0
    async with MemoryCluster(path) as cluster:
        store = cluster.stores[NodeId(1)]
        for seed in seeds:
            chance = random.Random(seed)
            policy = Policy(profile=chance.choice(PROFILES))
            size = max(1, chance.choice([1, 7, PAGE_BYTES, 131_072, 262_144, 300_000]) + chance.randint(-1, 1))
            data = chance.randbytes(size)
            row = await store.write(data, policy=policy, owner=OWNER, deadline=cluster.soon)
            damage = Damage(cluster, row, data, chance)
            parity = damage.profile.parity
            count = chance.choice([1, parity, parity, min(parity + 1, damage.profile.fragments)])
            kinds = {}
            for index in chance.sample(range(damage.profile.fragments), count):
                kinds[index] = chance.choice(KINDS)
                await damage.do(kinds[index], index)
            for whole in (True, False):
                offset = 0 if whole else chance.randrange(size)
                length = size if whole else chance.randint(1, size - offset)
                try:
                    found = await answer(cluster, row, offset, length, tries=1 if count > parity else 5)
                except DwError as error:
                    if count <= parity:
                        pytest.fail(f"seed {seed}: {row.profile} {kinds}: {error}")
                    refused += 1
                    continue
                assert found == data[offset : offset + length], (seed, row.profile, kinds)
                read += 1
    assert read
    assert refused


async def test_what_is_read_is_right_or_refused_whatever_was_done_to_fragments(tmp_path: Path) -> None:
    await never_wrong(tmp_path, range(120))


@pytest.mark.campaign
async def test_what_is_read_is_right_or_refused_for_many_seeds(tmp_path: Path) -> None:
    await never_wrong(tmp_path, range(1_000, 4_000))


@pytest.mark.parametrize("kind", KINDS)
async def test_each_lie_is_found_out_and_reported(tmp_path: Path, kind: str) -> None:
    async with MemoryCluster(tmp_path) as cluster:
        store = cluster.stores[NodeId(1)]
        for data in (bytes(range(256)) * 1_024, b"small"):
            row = await store.write(data, policy=Policy(profile="rs-4-2"), owner=OWNER, deadline=cluster.soon)
            damage = Damage(cluster, row, data, random.Random(3))
            order = store.reader.order(damage.where)
            lying = 1 if damage.profile.data > 1 else order[0]
            await damage.do(kind, lying)
            for offset, length in ((0, len(data)), (len(data) // 3, len(data) // 3 or 1)):
                views = await store.read(row, owner=OWNER, offset=offset, length=length, deadline=cluster.soon)
                assert b"".join(views) == data[offset : offset + length]
            found = store.reports.take(10)
            assert [(report.block, report.indexes) for report in found] == [(row, {lying})]
