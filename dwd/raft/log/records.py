"""What the frames of the Raft log hold, version 1. All numbers are big-endian; group and replica stand in the frame.

    WRITE      one LogWrite, or a part of a long one
               0 flags u8 (1 hard state, 2 reset, 4 tail confirmed, 8 witness) | 1 zeros (3) | 4 entries u32
               hard state, if flagged: term u64 | vote u64 | commit u64
               position, if flagged reset
               entries, each: 0 index u64 | 8 term u64 | 16 stamp u64 | 24 kind u8 | 25 zeros (3)
                             28 payload length u32 | 32 crc32c u32 of bytes 0-31 and payload | 36 payload
    COMPACTED  position: all up to there is durable elsewhere
    DROPPED    nothing: the group left this node
    OPENED     0 groups u32: first frame of every segment; as many GROUP frames follow, all groups there are
    GROUP      0 doubt u8 | 1 witness u8 | 2 zeros (6) | hard state | last index u64 | last term u64
               position (of compaction)

    position   index u64 | term u64 | stamp u64 | configuration length u32 | configuration

An entry carries its own checksum so that a few of a long frame can be read and verified.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum

from dwd.base.errors import Corrupt, InvalidArgument, InvariantViolation
from dwd.base.ids import GroupId, LogIndex, ReplicaId, Stamp, Term
from dwd.base.limits import COMMAND_BYTES_MAX
from dwd.base.units import KIB, MIB
from dwd.journal.checksum import crc32c
from dwd.journal.frames import FRAME_BYTES_MAX, Frame
from dwd.raft.core.configuration_codec import decode_configuration, encode_configuration
from dwd.raft.core.types import Entry, EntryKind, HardState, SnapshotMeta
from dwd.raft.ports import Doubt, LogWrite

RECORDS_VERSION = 1
ENTRY_PAYLOAD_BYTES_MAX = 4 * MIB
FRAME_ENTRIES_BYTES = 1 * MIB
"""A frame of entries is closed once it holds this much."""

_WRITE = struct.Struct(">B3xI")
_HARD_STATE = struct.Struct(">QQQ")
_POSITION = struct.Struct(">QQQI")
_ENTRY = struct.Struct(">QQQB3xI")
_CRC = struct.Struct(">I")
_OPENED = struct.Struct(">I")
_GROUP = struct.Struct(">BB6xQQQQQ")
_HAS_HARD_STATE, _HAS_RESET, _TAIL_CONFIRMED, _WITNESS = 1, 2, 4, 8

ENTRY_HEADER_BYTES = _ENTRY.size + _CRC.size

if not COMMAND_BYTES_MAX <= ENTRY_PAYLOAD_BYTES_MAX or (
    FRAME_ENTRIES_BYTES + ENTRY_HEADER_BYTES + ENTRY_PAYLOAD_BYTES_MAX + 64 * KIB > FRAME_BYTES_MAX
):
    raise InvariantViolation("the largest command must fit an entry, and a full frame and one more entry a frame")


class RecordKind(IntEnum):
    WRITE = 1
    COMPACTED = 2
    DROPPED = 3
    OPENED = 4
    GROUP = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupOpening:
    """One group at the beginning of a segment: what all earlier segments together say of it."""

    group: GroupId
    replica: ReplicaId
    hard_state: HardState
    compacted: SnapshotMeta
    last_index: LogIndex
    last_term: Term
    doubt: Doubt
    witness: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPlace:
    """Where an entry lies inside its frame's payload; `length` with its header."""

    offset: int
    length: int


_DOUBTS = (Doubt.NONE, Doubt.TAIL, Doubt.CORRUPT)


def split_write(write: LogWrite) -> Iterator[LogWrite]:
    """`write` in parts that fit a frame each; nearly always itself alone. The first carries all but the entries."""
    start, filled = 0, 0
    for at, entry in enumerate(write.entries):
        filled += ENTRY_HEADER_BYTES + len(entry.payload)
        if filled >= FRAME_ENTRIES_BYTES and at + 1 < len(write.entries):
            yield _part(write, start, at + 1)
            start, filled = at + 1, 0
    yield write if start == 0 else _part(write, start, len(write.entries))


def encode_write(write: LogWrite) -> tuple[Frame, tuple[int, ...]]:
    """The frame of a write that fits one, and the sizes of its entries (headers included). Raises InvalidArgument."""
    flags = (_TAIL_CONFIRMED if write.tail_confirmed else 0) | (_WITNESS if write.witness else 0)
    prefix = b""
    if write.hard_state is not None:
        flags |= _HAS_HARD_STATE
        prefix = encode_hard_state(write.hard_state)
    if write.reset is not None:
        flags |= _HAS_RESET
        prefix += encode_position(write.reset)
    pieces = [_WRITE.pack(flags, len(write.entries)), prefix]
    for entry in write.entries:
        pieces += (_entry_header(entry), entry.payload)
    frame = Frame(kind=RecordKind.WRITE, group=write.group, replica=write.replica, pieces=(b"".join(pieces),))
    return frame, tuple(ENTRY_HEADER_BYTES + len(entry.payload) for entry in write.entries)


def decode_write(group: GroupId, replica: ReplicaId, payload: memoryview) -> tuple[LogWrite, tuple[EntryPlace, ...]]:
    """The inverse of `encode_write` for one frame. Raises Corrupt."""
    try:
        flags, count = _WRITE.unpack_from(payload)
        at = _WRITE.size
        hard_state, reset = None, None
        if flags & _HAS_HARD_STATE:
            hard_state = decode_hard_state(payload[at:])
            at += _HARD_STATE.size
        if flags & _HAS_RESET:
            reset, size = decode_position(payload[at:])
            at += size
        entries: list[Entry] = []
        places: list[EntryPlace] = []
        for _ in range(count):
            entry, size = decode_entry(payload[at:])
            entries.append(entry)
            places.append(EntryPlace(offset=at, length=size))
            at += size
    except struct.error as error:
        raise Corrupt("raft.log_record", "a record of the log is cut short", group=group) from error
    if at != len(payload):
        raise Corrupt("raft.log_record", "a record of the log has bytes too many", group=group)
    write = LogWrite(
        group=group,
        replica=replica,
        hard_state=hard_state,
        entries=tuple(entries),
        reset=reset,
        tail_confirmed=bool(flags & _TAIL_CONFIRMED),
        witness=bool(flags & _WITNESS),
    )
    return write, tuple(places)


def decode_entry(content: memoryview) -> tuple[Entry, int]:
    """The verified entry at the start of `content`, and its bytes there. Raises Corrupt, struct.error if cut short."""
    index, term, stamp, kind, length = _ENTRY.unpack_from(content)
    (stated,) = _CRC.unpack_from(content, _ENTRY.size)
    end = ENTRY_HEADER_BYTES + length
    payload = bytes(content[ENTRY_HEADER_BYTES:end])
    if len(payload) != length or stated != crc32c(payload, crc32c(bytes(content[: _ENTRY.size]))):
        raise Corrupt("raft.log_entry", f"log entry {index} fails its checksum", index=index)
    entry = Entry(index=LogIndex(index), term=Term(term), kind=EntryKind(kind), stamp=Stamp(stamp), payload=payload)
    return entry, end


def encode_hard_state(state: HardState) -> bytes:
    return _HARD_STATE.pack(state.term, state.vote, state.commit)


def decode_hard_state(content: memoryview) -> HardState:
    term, vote, commit = _HARD_STATE.unpack_from(content)
    return HardState(term=Term(term), vote=ReplicaId(vote), commit=LogIndex(commit))


def encode_position(meta: SnapshotMeta) -> bytes:
    configuration = encode_configuration(meta.configuration)
    return _POSITION.pack(meta.index, meta.term, meta.stamp, len(configuration)) + configuration


def decode_position(content: memoryview) -> tuple[SnapshotMeta, int]:
    """The position and its bytes. Raises Corrupt."""
    if len(content) < _POSITION.size:
        raise Corrupt("raft.log_record", "a position in the log is cut short")
    index, term, stamp, length = _POSITION.unpack_from(content)
    end = _POSITION.size + length
    meta = SnapshotMeta(
        index=LogIndex(index),
        term=Term(term),
        stamp=Stamp(stamp),
        configuration=decode_configuration(bytes(content[_POSITION.size : end])),
    )
    return meta, end


def compacted_frame(group: GroupId, replica: ReplicaId, position: SnapshotMeta) -> Frame:
    return Frame(kind=RecordKind.COMPACTED, group=group, replica=replica, pieces=(encode_position(position),))


def dropped_frame(group: GroupId, replica: ReplicaId) -> Frame:
    return Frame(kind=RecordKind.DROPPED, group=group, replica=replica, pieces=())


def opening_frames(groups: list[GroupOpening]) -> list[Frame]:
    """OPENED and a GROUP for each of `groups`."""
    frames = [Frame(kind=RecordKind.OPENED, group=0, replica=0, pieces=(_OPENED.pack(len(groups)),))]
    for opening in groups:
        payload = (
            _GROUP.pack(
                _DOUBTS.index(opening.doubt),
                opening.witness,
                opening.hard_state.term,
                opening.hard_state.vote,
                opening.hard_state.commit,
                opening.last_index,
                opening.last_term,
            )
            + encode_position(opening.compacted)
        )  # fmt: skip
        frames.append(Frame(kind=RecordKind.GROUP, group=opening.group, replica=opening.replica, pieces=(payload,)))
    return frames


def decode_group_opening(group: GroupId, replica: ReplicaId, payload: memoryview) -> GroupOpening:
    """Raises Corrupt."""
    try:
        doubt, witness, term, vote, commit, last_index, last_term = _GROUP.unpack_from(payload)
        compacted, _ = decode_position(payload[_GROUP.size :])
    except struct.error as error:
        raise Corrupt("raft.log_record", "an opening record is cut short", group=group) from error
    if doubt >= len(_DOUBTS):
        raise Corrupt("raft.log_record", f"unknown doubt {doubt} in an opening record", group=group)
    return GroupOpening(
        group=group,
        replica=replica,
        hard_state=HardState(term=Term(term), vote=ReplicaId(vote), commit=LogIndex(commit)),
        compacted=compacted,
        last_index=LogIndex(last_index),
        last_term=Term(last_term),
        doubt=_DOUBTS[doubt],
        witness=bool(witness),
    )


def _part(write: LogWrite, start: int, end: int) -> LogWrite:
    entries = write.entries[start:end]
    if start == 0:
        return replace(write, entries=entries)
    return LogWrite(group=write.group, replica=write.replica, entries=entries)


def _entry_header(entry: Entry) -> bytes:
    if len(entry.payload) > ENTRY_PAYLOAD_BYTES_MAX:
        raise InvalidArgument("raft.entry_size", f"log entry {entry.index} has {len(entry.payload)} bytes")
    fixed = _ENTRY.pack(entry.index, entry.term, entry.stamp, entry.kind, len(entry.payload))
    return fixed + _CRC.pack(crc32c(entry.payload, crc32c(fixed)))
