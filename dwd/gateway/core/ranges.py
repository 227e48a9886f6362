"""The Range header, and the stricter range of a part copy.

Source: RFC 9110 section 14.2. Like AWS, several ranges, another unit or a malformed one mean the whole object.
"""

from __future__ import annotations

from dwd.base.errors import InvalidArgument
from dwd.objects.core.ranges import RangeRequest

_DIGITS_MAX = 18


def parse_range(text: str | None) -> RangeRequest | None:
    """The wanted range, or None for the whole object."""
    if text is None:
        return None
    unit, found, spec = text.strip().partition("=")
    if not found or unit.strip().lower() != "bytes" or "," in spec:
        return None
    first, found, last = spec.strip().partition("-")
    first, last = first.strip(), last.strip()
    if not found or not all(_is_number(number) for number in (first, last) if number):
        return None
    if not first:
        return RangeRequest(suffix=int(last)) if last else None
    if not last:
        return RangeRequest(first=int(first))
    return RangeRequest(first=int(first), last=int(last)) if int(first) <= int(last) else None


def parse_copy_range(text: str | None) -> RangeRequest | None:
    """x-amz-copy-source-range: exactly bytes=first-last. Raises InvalidArgument s3.invalid_argument."""
    if text is None:
        return None
    wanted = parse_range(text)
    if wanted is None or wanted.first is None or wanted.last is None:
        raise InvalidArgument(
            "s3.invalid_argument",
            "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the "
            "zero-based offsets of the first and last bytes to copy",
            argument_name="x-amz-copy-source-range",
        )
    return wanted


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _DIGITS_MAX
