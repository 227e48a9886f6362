"""A block to fragments and back.

Data fragments are plain slices of the block (the code is systematic): as long as they are all there nothing is ever
decoded, and a range of a block is a range of one or few fragments. The last ones are padded with zeros to the common
length; the padding is never sent to a reader.

Nothing here trusts its input to be right: pages are verified where fragments are read, and the whole block against
its checksum after decoding. 4 MiB as 4+2 take under 1 ms, about what a hop to a thread and its copies would cost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dwd.base.errors import InvariantViolation
from dwd.blocks.core.profiles import Kind, Profile
from dwd.blocks.isal import FragmentMath, fragment_math
from dwd.runtime.files import Buffer


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Bytes [start, end) of data fragment `index`."""

    index: int
    start: int
    end: int


def encode(profile: Profile, block: Buffer, math: FragmentMath | None = None) -> list[Buffer]:
    """All fragments of the block, in order. Copies are the same buffer again and again: nothing is copied."""
    if profile.kind is Kind.COPIES:
        return [block] * profile.fragments
    fragments = _slices(profile, block)
    return fragments + (math or fragment_math()).parity(profile.data, profile.parity, fragments)


def rebuild(
    profile: Profile, have: Mapping[int, Buffer], want: Sequence[int], math: FragmentMath | None = None
) -> list[Buffer]:
    """Fragments `want` from at least `profile.data` others (or parts of them, all cut at the same offsets)."""
    if len(have) < profile.data:
        raise InvariantViolation("too few fragments to rebuild from", have=len(have), needed=profile.data)
    if profile.kind is Kind.COPIES:
        return [next(iter(have.values()))] * len(want)
    missing = [index for index in want if index not in have]
    made = (math or fragment_math()).rebuild(profile.data, profile.parity, have, missing) if missing else []
    by_index = dict(zip(missing, made, strict=True))
    return [have[i] if i in have else by_index[i] for i in want]


def pieces_of(profile: Profile, block_length: int, offset: int, length: int) -> list[Piece]:
    """Which parts of which data fragments hold bytes [offset, offset+length) of the block."""
    size, end = profile.fragment_length(block_length), min(block_length, offset + length)
    pieces = []
    while offset < end:
        index = offset // size
        stop = min(end, (index + 1) * size)
        pieces.append(Piece(index=index, start=offset - index * size, end=stop - index * size))
        offset = stop
    return pieces


def _slices(profile: Profile, block: Buffer) -> list[Buffer]:
    view, size = memoryview(block).cast("B"), profile.fragment_length(len(block))
    made: list[Buffer] = []
    for index in range(profile.data):
        part = view[index * size : (index + 1) * size]
        made.append(part if len(part) == size else bytes(part) + bytes(size - len(part)))
    return made
