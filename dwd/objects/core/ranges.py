"""Byte ranges as HTTP asks for them, against the size an object really has. Source: RFC 9110 section 14.1.2."""

from __future__ import annotations

from dwd.base.errors import InvalidArgument
from dwd.objects.ports import ByteRange, RangeRequest


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
