"""Byte ranges as HTTP asks for them, against the size an object really has. Source: RFC 9110 section 14.1.2."""

from __future__ import annotations

from dataclasses import dataclass

from dwd.base.errors import InvalidArgument


@dataclass(frozen=True, slots=True, kw_only=True)
class ByteRange:
    """[start, end) of an object, already resolved against its size."""

    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeRequest:
    """As HTTP asks: first-last, first-, or the last `suffix` bytes."""

    first: int | None = None
    last: int | None = None
    suffix: int | None = None


def resolve(wanted: RangeRequest | None, size: int) -> ByteRange:
    """[start, end) within [0, size). Raises InvalidArgument objects.range_not_satisfiable (field size)."""
    if wanted is None:
        return ByteRange(start=0, end=size)
    if wanted.suffix is not None:
        start, end = max(0, size - wanted.suffix), size
        satisfiable = wanted.suffix > 0 and size > 0
    else:
        start = wanted.first or 0
        end = size if wanted.last is None else min(size, wanted.last + 1)
        satisfiable = start < size and end > start
    if not satisfiable:
        raise InvalidArgument(
            "objects.range_not_satisfiable", f"the range lies outside an object of {size} bytes", size=size
        )
    return ByteRange(start=start, end=end)
