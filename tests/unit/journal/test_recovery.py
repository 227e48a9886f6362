"""Torn, corrupt or merely unfinished: what recovery says of a journal that is not what was written."""

from __future__ import annotations

import time

import pytest

from dwd.base.errors import Corrupt
from dwd.base.units import KIB, MIB
from dwd.journal.appender import Tail
from dwd.journal.frames import encode_batch, segment_seed
from dwd.journal.reader import JournalReader
from dwd.journal.recovery import Damage, Verdict, cut
from dwd.runtime.testing_files import MemoryFiles
from tests.unit.journal.journals import DIRECTORY, JOURNAL, Policy, appender, events, frame, recover


def journal_of(count: int, policy: Policy | None = None, size: int = 600) -> MemoryFiles:
    files = MemoryFiles()
    writer = appender(files, policy)
    for number in range(count):
        _ = writer.append([frame(f"{number:03d}".encode() + bytes(size))])
    writer.close()
    return files


def numbers(found: list[bytes | Damage]) -> list[int | Verdict]:
    return [e.verdict if isinstance(e, Damage) else int(e[:3]) for e in found]


BATCH = 1024
"""What a batch of `journal_of` takes."""


def test_everything_comes_back_when_nothing_happened() -> None:
    files = journal_of(100)
    recovery = recover(files)
    assert numbers(events(recovery)) == list(range(100))
    assert recovery.tail == Tail(segment=2, offset=4096 + 40 * BATCH, sequence=101)
    assert recovery.torn is None


def test_journal_goes_on_where_it_ended_when_reopened() -> None:
    files = journal_of(3)
    recovery = recover(files)
    _ = events(recovery)
    _ = appender(files, tail=recovery.tail).append([frame(b"003")])
    assert numbers(events(recover(files))) == [0, 1, 2, 3]


@pytest.mark.parametrize("offset", [0, 9, 13, 17, 21, 30, 58, 400])
def test_last_batch_is_torn_when_it_is_bad(offset: int) -> None:
    files = journal_of(3)
    files.flip(DIRECTORY / "0001", 4096 + 2 * BATCH + offset)
    recovery = recover(files)
    assert numbers(events(recovery)) == [0, 1, Verdict.TORN]
    assert recovery.torn is not None
    cut(files, DIRECTORY / "0001", recovery.torn)
    files.process_crash()
    again = recover(files)
    assert numbers(events(again)) == [0, 1]
    assert again.tail == recovery.tail == Tail(segment=1, offset=4096 + 2 * BATCH, sequence=3)


@pytest.mark.parametrize("offset", [0, 9, 13, 17, 21, 30, 58, 400])
def test_batch_is_corrupt_when_a_sound_one_follows(offset: int) -> None:
    files = journal_of(4)
    files.flip(DIRECTORY / "0001", 4096 + BATCH + offset)
    assert numbers(events(recover(files))) == [0, Verdict.CORRUPT, 2, 3]


def test_end_of_a_segment_is_corrupt_when_the_next_segment_goes_on() -> None:
    files = journal_of(70)
    files.flip(DIRECTORY / "0001", 4096 + 59 * BATCH)
    found = events(recover(files))
    assert numbers(found) == [*range(59), Verdict.CORRUPT, *range(60, 70)]


def test_frames_are_named_when_only_their_payload_is_damaged() -> None:
    files = MemoryFiles()
    writer = appender(files)
    positions = writer.append([frame(b"one", 1), frame(b"two", 2), frame(b"three", 3)])
    _ = writer.append([frame(b"more")])
    files.flip(DIRECTORY / "0001", positions[1].offset)
    damage = events(recover(files))[0]
    assert isinstance(damage, Damage)
    assert damage.frames is not None
    assert [f.group for f in damage.frames] == [2]
    assert [(f.group, bytes(payload)) for f, payload in damage.sound] == [(1, b"one"), (3, b"three")]


def test_segment_is_left_out_when_it_has_neither_header_nor_content() -> None:
    files = journal_of(2)
    file = files.open(DIRECTORY / "0002", create=True)
    file.allocate(64 * KIB)
    recovery = recover(files)
    assert numbers(events(recovery)) == [0, 1]
    assert recovery.unfinished == [DIRECTORY / "0002"]


def test_header_rot_is_corruption_and_loses_no_batch_when_the_journal_is_known() -> None:
    files = journal_of(70)
    files.flip(DIRECTORY / "0002", 20)
    assert numbers(events(recover(files))) == [*range(60), Verdict.CORRUPT, *range(60, 70)]


def test_a_stored_copy_of_the_journal_is_no_batch_when_what_holds_it_is_damaged() -> None:
    files = MemoryFiles()
    writer = appender(files)
    _ = writer.append([frame(b"000" + bytes(600))])
    copied, _, _ = encode_batch([frame(b"evil")], sequence=3, segment=1, offset=4096, seed=segment_seed(JOURNAL, 1))
    _ = writer.append([frame(b"001" + bytes(512 - 59) + b"".join(copied) * 4)])
    files.flip(DIRECTORY / "0001", 4096 + BATCH + 2)
    assert numbers(events(recover(files))) == [0, Verdict.TORN]


def test_looking_for_a_later_batch_stays_cheap_when_the_bytes_claim_to_be_heads() -> None:
    """2 MiB of heads that claim a table of 2 MiB each: reading what they claim would take 8 GiB of checksums."""
    claim = (2).to_bytes(8, "big") + (3 * MIB).to_bytes(4, "big") + (65_000).to_bytes(4, "big")
    files = MemoryFiles()
    writer = appender(files, Policy(segment_bytes=4 * MIB, allocate_bytes=4 * MIB))
    _ = writer.append([frame(claim.ljust(512, b"\1") * 4096)])
    files.flip(DIRECTORY / "0001", 4096)
    started = time.perf_counter()
    assert numbers(events(recover(files))) == [Verdict.TORN]
    assert time.perf_counter() - started < 5


def test_reader_refuses_what_is_not_what_was_written() -> None:
    files = MemoryFiles()
    policy = Policy()
    position = appender(files, policy).append([frame(b"hello")])[0]
    reader = JournalReader(files, policy.path)
    assert reader.read(position) == b"hello"
    files.flip(DIRECTORY / "0001", position.offset + 1)
    with pytest.raises(Corrupt):
        _ = reader.read(position)
    reader.close()
