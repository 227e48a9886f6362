"""Numbers and choices in queries."""

from __future__ import annotations

from collections.abc import Mapping

from dwd.base.errors import InvalidArgument
from dwd.base.limits import LIST_PAGE_MAX

PART_NUMBER_MAX = 10_000


def page_limit(query: Mapping[str, str], name: str) -> int:
    """max-keys and its like: at most LIST_PAGE_MAX, which is also the default."""
    return min(whole_number(query, name, default=LIST_PAGE_MAX, at_most=2**31 - 1), LIST_PAGE_MAX)


def part_number(text: str) -> int:
    """Raises InvalidArgument s3.invalid_argument unless 1 to 10,000."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 1 <= int(text) <= PART_NUMBER_MAX):
        raise InvalidArgument(
            "s3.invalid_argument",
            f"Part number must be an integer between 1 and {PART_NUMBER_MAX}, inclusive",
            argument_name="partNumber",
        )
    return int(text)


def whole_number(query: Mapping[str, str], name: str, *, default: int, at_most: int) -> int:
    text = query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 18 and int(text) <= at_most):
        raise InvalidArgument(
            "s3.invalid_argument",
            f"Argument {name} must be an integer between 0 and {at_most}",
            argument_name=name,
        )
    return int(text)


def wants_url_encoding(query: Mapping[str, str]) -> bool:
    """Raises InvalidArgument s3.invalid_argument for an encoding-type that is not "url"."""
    wanted = query.get("encoding-type", "")
    if wanted and wanted.lower() != "url":
        raise InvalidArgument(
            "s3.invalid_argument", "Invalid Encoding Method specified in Request", argument_name="encoding-type"
        )
    return bool(wanted)
