"""Volumes that were damaged or cut short anywhere: what is lost is what lay there, and nothing wrong is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from dwd.base.errors import Corrupt
from dwd.base.ids import BlockId, LayoutEpoch
from dwd.blocks.core.profiles import parse_profile
from dwd.blocks.ports import Owner
from dwd.blocks.volumes.fragment import FRAME_FRAGMENT, FRAME_TOMBSTONE, FragmentKey, encode_head, encode_keys
from dwd.blocks.volumes.fragment import page_checksums as sums
from dwd.blocks.volumes.index import FragmentIndex, Place
from dwd.blocks.volumes.policy import VolumePolicy
from dwd.blocks.volumes.recovery import Recovered, recover
from dwd.blocks.volumes.volumes import check
from dwd.journal.appender import FIRST_TAIL, Appender, Tail
from dwd.journal.frames import Frame, Position
from dwd.runtime.testing_files import MemoryFiles

JOURNAL = b"j" * 16
VOLUMES = Path("/d/volumes")
HEADER = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Lies:
    """A fragment that was acknowledged: where it lies, and in which batch."""

    key: FragmentKey
    content: bytes
    place: Place
    batch: tuple[int, int]


def story(number: int, content: bytes) -> bytes:
    return encode_head(
        key=key(number), profile=parse_profile("rs-4-2"), block_length=4 * len(content), block_crc32c=7,
        length=len(content), partition=0, layout_epoch=LayoutEpoch(1), owner=Owner(bucket="b", key=f"k{number}"),
        pages=sums(content),
    )  # fmt: skip


def key(number: int) -> FragmentKey:
    return FragmentKey(BlockId(number.to_bytes(16)), number % 6)


class Shelf:
    """Volumes of a device without the device: appended by the journal's writer, read back by recovery."""

    def __init__(self, volume_bytes: int = 1 << 16) -> None:
        self.files = MemoryFiles()
        self.files.make_directory(VOLUMES)
        self.policy = VolumePolicy(VOLUMES, volume_bytes=volume_bytes, allocate_bytes=4096)
        self.lies: list[Lies] = []
        self.tail = FIRST_TAIL

    def append(self, *sizes: int, deleted: Sequence[int] = ()) -> None:
        """One batch of new fragments of these sizes, and a tombstone."""
        first = len(self.lies)
        contents = [bytes([(first + n) % 251 + 1]) * size for n, size in enumerate(sizes)]
        heads = [story(first + n, content) for n, content in enumerate(contents)]
        frames = [
            Frame(kind=FRAME_FRAGMENT, group=0, replica=0, pieces=pair) for pair in zip(heads, contents, strict=True)
        ]
        if deleted:
            keys = encode_keys(key(number) for number in deleted)
            frames.append(Frame(kind=FRAME_TOMBSTONE, group=0, replica=0, pieces=(keys,)))
        appender = Appender(files=self.files, policy=self.policy, journal=JOURNAL, tail=self.tail)
        positions: Sequence[Position] = appender.append(frames)
        self.tail = appender.tail
        appender.close()
        batch = (positions[0].offset - 24 - 32 * len(frames), self.tail.offset)
        for n, content in enumerate(contents):
            place = Place(positions[n].segment, positions[n].offset, len(heads[n]), len(content))
            self.lies.append(Lies(key=key(first + n), content=content, place=place, batch=batch))

    def path(self, segment: int = 1) -> Path:
        return self.policy.path(segment)

    def used(self) -> int:
        return self.tail.offset

    def copy(self) -> Shelf:
        other = Shelf(self.policy.segment_bytes)
        for name in self.files.list(VOLUMES):
            other.files.write_durably(VOLUMES / name, self.files.read(VOLUMES / name))
        other.lies, other.tail = self.lies, self.tail
        return other

    def recover(self, index: FragmentIndex) -> Recovered:
        return recover(self.files, VOLUMES, JOURNAL, index)

    def read(self, index: FragmentIndex, lies: Lies) -> bytes | None:
        """What a reader gets: None is *not here* or *corrupt*."""
        place = index.find(lies.key)
        if place is None:
            return None
        content = self.files.open(self.path(place.segment)).read_at(place.offset, place.bytes)
        try:
            head = check(lies.key, place, content)
        except Corrupt:
            return None
        return content[head.size :]


@pytest.fixture
def shelf() -> Shelf:
    made = Shelf()
    made.append(100, 900, 1)
    made.append(70_000 // 64)
    made.append(0, 300, 400, 2000)
    made.append(500, 40, deleted=[1])
    return made


@pytest.fixture
def index() -> Iterator[FragmentIndex]:
    made = FragmentIndex(":memory:", JOURNAL)
    yield made
    made.close()


def alive(shelf: Shelf) -> list[Lies]:
    return [lies for lies in shelf.lies if lies.key != key(1)]


def test_all_is_found_when_nothing_is_damaged(shelf: Shelf, index: FragmentIndex) -> None:
    found = shelf.recover(index)
    assert (found.tail, found.damaged, found.scanned_batches) == (shelf.tail, 0, 4)
    assert all(shelf.read(index, lies) == lies.content for lies in alive(shelf))
    assert index.find(key(1)) is None


def flips(step: int, shelf: Shelf) -> Iterator[int]:
    yield from range(0, 60, 3)
    yield from range(60, HEADER, 1997)
    yield from range(HEADER, shelf.used(), step)


def check_flip(shelf: Shelf, at: int) -> None:
    broken, index = shelf.copy(), FragmentIndex(":memory:", JOURNAL)
    broken.files.flip(broken.path(), at, 0x10)
    found = broken.recover(index)
    for lies in alive(shelf):
        got = broken.read(index, lies)
        assert got in {None, lies.content}, f"flip at {at}: {lies.key} is read wrong"
        own = lies.place.offset <= at < lies.place.end
        heading = lies.batch[0] <= at < min(other.place.offset for other in shelf.lies if other.batch == lies.batch)
        if got is None:
            assert own or heading, f"flip at {at}: {lies.key} is lost though it lies elsewhere"
            assert found.damaged, f"flip at {at}: the loss went unnoticed"
    before = {lies.key for lies in alive(shelf) if broken.read(index, lies) is not None}
    appended = Appender(files=broken.files, policy=broken.policy, journal=JOURNAL, tail=found.tail)
    content = b"after" * 20
    frame = Frame(kind=FRAME_FRAGMENT, group=0, replica=0, pieces=(story(99, content), content))
    appended.append([frame])
    appended.close()
    again = FragmentIndex(":memory:", JOURNAL)
    broken.recover(again)
    assert again.find(key(99)) is not None, f"flip at {at}: what was appended afterwards is not found"
    assert before == {lies.key for lies in alive(shelf) if broken.read(again, lies) is not None}
    index.close()
    again.close()


def test_only_what_lies_there_is_lost_when_a_byte_of_a_volume_flips(shelf: Shelf) -> None:
    for at in flips(173, shelf):
        check_flip(shelf, at)


@pytest.mark.campaign
def test_only_what_lies_there_is_lost_when_any_byte_of_a_volume_flips(shelf: Shelf) -> None:
    for at in flips(1, shelf):
        check_flip(shelf, at)


@pytest.mark.parametrize("known", [False, True], ids=["index-lost", "index-kept"])
def test_the_rest_is_kept_when_a_volume_is_cut_short_at_any_byte(shelf: Shelf, *, known: bool) -> None:
    for length in (*range(0, HEADER, 1211), *range(HEADER, shelf.used(), 149)):
        broken, index = shelf.copy(), FragmentIndex(":memory:", JOURNAL)
        if known:
            broken.recover(index)
        file = broken.files.open(broken.path())
        file.truncate(length)
        file.sync()
        found = broken.recover(index)
        for lies in alive(shelf):
            got = broken.read(index, lies)
            whole = lies.place.end <= length
            if lies.key != key(1):
                assert got == (lies.content if whole else None), f"cut at {length}: {lies.key}"
        lost = any(lies.place.end > length for lies in shelf.lies)
        assert found.damaged or not known or not lost, f"cut at {length}: the loss went unnoticed"
        index.close()


def test_fragments_of_the_other_volumes_stay_when_one_is_gone() -> None:
    shelf = Shelf(volume_bytes=8192)
    for size in (3000, 3000, 3000, 3000):
        shelf.append(size)
    assert len(shelf.files.list(VOLUMES)) == 4
    for gone in (1, 2, 4):
        broken, index = shelf.copy(), FragmentIndex(":memory:", JOURNAL)
        broken.recover(index)
        broken.files.remove(broken.path(gone))
        found = broken.recover(index)
        assert found.damaged
        for number, lies in enumerate(shelf.lies, 1):
            assert (broken.read(index, lies) if number != gone else index.find(lies.key)) == (
                lies.content if number != gone else None
            )
        assert set(index.uses()) == {1, 2, 3, 4} - {gone}
        index.close()


def test_fragments_are_found_when_the_header_of_their_volume_is_damaged() -> None:
    shelf = Shelf(volume_bytes=8192)
    for size in (3000, 3000, 3000, 3000):
        shelf.append(size)
    for segment in range(1, 5):
        broken, index = shelf.copy(), FragmentIndex(":memory:", JOURNAL)
        broken.files.flip(broken.path(segment), 20)
        found = broken.recover(index)
        assert found.damaged == 1
        assert all(broken.read(index, lies) == lies.content for lies in shelf.lies), segment
        assert (found.tail.segment, found.tail.sequence) == (5 if segment == 4 else 4, 5)
        index.close()


def test_a_volume_of_another_device_is_refused() -> None:
    shelf = Shelf()
    shelf.append(10)
    index = FragmentIndex(":memory:", b"k" * 16)
    with pytest.raises(Corrupt, match="another device"):
        recover(shelf.files, VOLUMES, b"k" * 16, index)
    index.close()


def test_what_was_never_synced_is_not_believed_when_only_the_process_died(shelf: Shelf, index: FragmentIndex) -> None:
    synced: list[str] = []
    opened = shelf.files.open

    def watch(path: Path, *, create: bool = False, writable: bool = True) -> object:
        file = opened(path, create=create, writable=writable)
        kept = file.sync, file.drop_cache
        file.sync = lambda: (synced.append("sync"), kept[0]())[1]  # type: ignore[method-assign, func-returns-value]
        file.drop_cache = lambda at, length: synced.append("drop")  # type: ignore[method-assign]
        return file

    shelf.recover(index)
    shelf.files.open = watch  # type: ignore[method-assign, assignment]
    shelf.recover(index)
    assert synced == ["sync", "drop"]


def test_nothing_is_changed_when_the_device_is_read_only(shelf: Shelf, index: FragmentIndex) -> None:
    shelf.files.flip(shelf.path(), shelf.lies[-1].batch[0] + 3)
    before = shelf.files.read(shelf.path())
    found = recover(shelf.files, VOLUMES, JOURNAL, index, writable=False)
    assert found.damaged == 1
    assert shelf.files.read(shelf.path()) == before
    assert [lies.key for lies in shelf.lies if shelf.read(index, lies) is None] == [key(8), key(9)]
    assert found.tail == Tail(segment=1, offset=shelf.lies[-1].batch[0], sequence=4)
