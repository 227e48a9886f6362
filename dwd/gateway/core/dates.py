"""The four ways S3 writes an instant. All are UTC; inputs and outputs here are Unix milliseconds or seconds.

Source: RFC 9110 section 5.6.7 (HTTP dates), ISO 8601, AWS SigV4 (basic format).
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_EARLIEST_SECONDS = -62_135_596_800
_LATEST_SECONDS = 253_402_300_799


@lru_cache(maxsize=1_024)
def http_date(unix_seconds: int) -> str:
    """As Last-Modified wants it: "Wed, 28 Oct 2009 22:32:00 GMT"."""
    at = _instant(unix_seconds)
    return (
        f"{_DAYS[at.weekday()]}, {at.day:02} {_MONTHS[at.month - 1]} {at.year:04} "
        f"{at.hour:02}:{at.minute:02}:{at.second:02} GMT"
    )


def parse_http_date(text: str) -> int | None:
    """Unix seconds, or None for what is not a date: a condition with a bad date is ignored (RFC 9110, 13.1.3)."""
    try:
        at = parsedate_to_datetime(text)
        if at.tzinfo is None:
            at = at.replace(tzinfo=UTC)
        return int(at.timestamp())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def iso_date(unix_ms: int) -> str:
    """As S3 documents want it: "2009-10-28T22:32:00.000Z"."""
    seconds, ms = divmod(unix_ms, 1_000)
    at = _instant(seconds)
    return f"{at.year:04}-{at.month:02}-{at.day:02}T{at.hour:02}:{at.minute:02}:{at.second:02}.{ms:03}Z"


@lru_cache(maxsize=256)
def parse_basic(text: str) -> int | None:
    """Unix seconds of "20091028T223200Z", or None."""
    if len(text) != 16 or text[8] != "T" or text[15] != "Z":
        return None
    digits = text[:8] + text[9:15]
    if not (digits.isascii() and digits.isdigit()):
        return None
    try:
        at = datetime(
            int(text[:4]), int(text[4:6]), int(text[6:8]), int(text[9:11]), int(text[11:13]), int(text[13:15]),
            tzinfo=UTC,
        )  # fmt: skip
    except ValueError:
        return None
    return int(at.timestamp())


def basic(unix_seconds: int) -> str:
    """The inverse of `parse_basic`."""
    at = _instant(unix_seconds)
    return f"{at.year:04}{at.month:02}{at.day:02}T{at.hour:02}{at.minute:02}{at.second:02}Z"


def _instant(unix_seconds: int) -> datetime:
    return datetime.fromtimestamp(min(max(unix_seconds, _EARLIEST_SECONDS), _LATEST_SECONDS), tz=UTC)
