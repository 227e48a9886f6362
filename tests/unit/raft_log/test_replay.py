"""What is concluded from a damaged batch: docs/adr/0005-whom-a-damaged-log-batch-puts-in-doubt.md."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest

from dwd.base.ids import GroupId, LogIndex, ReplicaId, Term
from dwd.journal.checksum import crc32c
from dwd.journal.frames import BatchHead, Frame, FrameHeader, Position
from dwd.journal.recovery import Damage, SegmentBegun, Verdict
from dwd.journal.scan import ScannedBatch
from dwd.raft.core.types import HardState
from dwd.raft.log.records import GroupOpening, encode_write, opening_frames
from dwd.raft.log.replay import Replay
from dwd.raft.ports import Doubt, LogWrite
from tests.property.raft_log.log_model import entry, position

ONE, TWO = GroupId(1), GroupId(2)
Found = tuple[FrameHeader, memoryview]


def appended(group: GroupId, first: int, last: int, term: int) -> Frame:
    entries = tuple(entry(index, term, 20) for index in range(first, last + 1))
    hard_state = HardState(term=Term(term), vote=ReplicaId(0), commit=LogIndex(0))
    return encode_write(LogWrite(group=group, replica=ReplicaId(9), hard_state=hard_state, entries=entries))[0]


def opening(group: GroupId, *, compacted: int, last: int, term: int) -> list[Frame]:
    return opening_frames(
        [
            GroupOpening(
                group=group, replica=ReplicaId(9), compacted=position(compacted, 1),
                hard_state=HardState(term=Term(term), vote=ReplicaId(0), commit=LogIndex(0)),
                last_index=LogIndex(last), last_term=Term(term), doubt=Doubt.NONE,
            )
        ]
    )  # fmt: skip


def found(frames: Sequence[Frame], segment: int) -> list[Found]:
    contents = [b"".join(bytes(piece) for piece in frame.pieces) for frame in frames]
    return [
        (
            FrameHeader(
                kind=frame.kind, group=frame.group, replica=frame.replica,
                position=Position(segment=segment, offset=64, length=len(content), crc32c=crc32c(content)),
            ),
            memoryview(content),
        )
        for frame, content in zip(frames, contents, strict=True)
    ]  # fmt: skip


class Story:
    """Stands in for a Recovery: what was read, in order."""

    def __init__(self) -> None:
        self.events: list[SegmentBegun | ScannedBatch | Damage] = []
        self.segment = 0

    def begin(self, frames: Sequence[Frame] = ()) -> Story:
        self.segment += 1
        self.events.append(SegmentBegun(segment=self.segment, header=None))
        return self.batch(*frames) if frames else self

    def batch(self, *frames: Frame) -> Story:
        pairs = found(frames, self.segment)
        head = BatchHead(sequence=1, offset=0, end=64, frames=tuple(header for header, _ in pairs))
        self.events.append(ScannedBatch(head=head, payloads=tuple(payload for _, payload in pairs)))
        return self

    def damaged(
        self, lost: Sequence[Frame], sound: Sequence[Frame] = (), *, verdict: Verdict = Verdict.CORRUPT
    ) -> Story:
        self.events.append(
            Damage(
                verdict=verdict, segment=self.segment, offset=64, sequence=1,
                frames=tuple(header for header, _ in found(lost, self.segment)),
                sound=tuple(found(sound, self.segment)),
            )
        )  # fmt: skip
        return self

    def __iter__(self) -> Iterator[SegmentBegun | ScannedBatch | Damage]:
        return iter(self.events)

    def doubts(self) -> dict[GroupId, Doubt]:
        return {group: log.doubt for group, log in self.replay().logs().items()}

    def replay(self) -> Replay:
        told = Replay()
        told.run(self)  # type: ignore[arg-type]
        return told


def test_nothing_is_joined_across_a_lost_frame_when_a_sound_one_of_its_batch_came_before_it() -> None:
    """The batch held 3-5 of term 1 and then 4-5 of term 2, which are lost; the next segment's opening fits the end."""
    story = Story().begin().batch(appended(ONE, 1, 2, 1))
    story.damaged([appended(ONE, 4, 5, 2)], [appended(ONE, 3, 5, 1)]).batch(appended(ONE, 6, 6, 2))
    story.begin(opening(ONE, compacted=2, last=6, term=2))
    log = story.replay().logs()[ONE]
    assert log.doubt is Doubt.CORRUPT
    assert log.entries == ()


def test_a_group_is_cleared_when_a_later_opening_says_it_has_all_it_had() -> None:
    """Only its hard state can have been in the lost frame, and the opening says it again."""
    story = Story().begin().batch(appended(ONE, 1, 3, 1), appended(TWO, 1, 3, 1))
    story.damaged([appended(ONE, 3, 3, 1)])
    story.begin(opening(ONE, compacted=0, last=3, term=1))
    assert story.doubts() == {ONE: Doubt.NONE}
    assert [e.index for e in story.replay().logs()[ONE].entries] == [1, 2, 3]


@pytest.mark.parametrize(("compacted", "doubt"), [(0, Doubt.CORRUPT), (4, Doubt.CORRUPT), (5, Doubt.NONE)])
def test_a_lost_entry_is_missed_until_it_is_compacted_when_a_later_opening_goes_past_it(
    compacted: int, doubt: Doubt
) -> None:
    story = Story().begin().batch(appended(ONE, 1, 4, 1)).damaged([appended(ONE, 5, 5, 1)])
    story.batch(appended(ONE, 6, 7, 1)).begin(opening(ONE, compacted=compacted, last=7, term=1))
    assert story.doubts() == {ONE: doubt}


def test_only_groups_of_the_lost_frames_are_doubted_when_the_head_tells_them() -> None:
    story = Story().begin().batch(appended(ONE, 1, 2, 1), appended(TWO, 1, 2, 1))
    story.damaged([appended(ONE, 3, 3, 1)], [appended(TWO, 3, 3, 1)]).batch(appended(TWO, 4, 4, 1))
    assert story.doubts() == {ONE: Doubt.CORRUPT, TWO: Doubt.NONE}


def test_every_group_is_doubted_when_nobody_knows_what_was_lost() -> None:
    story = Story().begin().batch(appended(ONE, 1, 2, 1))
    story.damaged([appended(ONE, 3, 3, 1)])
    last = story.events[-1]
    assert isinstance(last, Damage)
    story.events[-1] = replace(last, frames=None)
    story.batch(appended(TWO, 1, 1, 1))
    assert story.doubts() == {ONE: Doubt.CORRUPT, TWO: Doubt.CORRUPT}
