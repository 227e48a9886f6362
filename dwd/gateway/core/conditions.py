"""Preconditions of reads and writes.

Reads are judged here against what was found; writes and copies only read their conditions here: the state machine
judges them, so that they are atomic.

Source: RFC 9110 section 13.2.2 (order of evaluation), AWS "Conditional reads", "Conditional writes".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

from dwd.base.errors import Conflict, InvalidArgument
from dwd.gateway.core.dates import parse_http_date
from dwd.objects.ports import ObjectInfo, Precondition

ETAGS_MAX = 64


class Verdict(Enum):
    PROCEED = "proceed"
    NOT_MODIFIED = "not modified"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadConditions:
    """Of a GET or HEAD; instants in Unix seconds, as finely as HTTP knows them."""

    if_match: tuple[str, ...] = ()
    if_none_match: tuple[str, ...] = ()
    modified_since: int | None = None
    unmodified_since: int | None = None

    def judge(self, info: ObjectInfo) -> Verdict:
        """Raises Conflict objects.precondition_failed."""
        modified = info.modified_unix_ms // 1_000
        if self.if_match:
            if not _matches(self.if_match, info.etag):
                raise _failed("If-Match")
        elif self.unmodified_since is not None and modified > self.unmodified_since:
            raise _failed("If-Unmodified-Since")
        if self.if_none_match:
            if _matches(self.if_none_match, info.etag):
                return Verdict.NOT_MODIFIED
        elif self.modified_since is not None and modified <= self.modified_since:
            return Verdict.NOT_MODIFIED
        return Verdict.PROCEED


UNCONDITIONAL = ReadConditions()


def read_conditions(headers: Mapping[str, str]) -> ReadConditions:
    if not ("if-match" in headers or "if-none-match" in headers
            or "if-modified-since" in headers or "if-unmodified-since" in headers):  # fmt: skip
        return UNCONDITIONAL
    return ReadConditions(
        if_match=parse_etags(headers.get("if-match", "")),
        if_none_match=parse_etags(headers.get("if-none-match", "")),
        modified_since=_date(headers.get("if-modified-since")),
        unmodified_since=_date(headers.get("if-unmodified-since")),
    )


def write_precondition(headers: Mapping[str, str]) -> Precondition:
    """Of a PUT, Complete or DELETE. Raises InvalidArgument s3.not_implemented for what S3 does not offer either."""
    match, none_match = headers.get("if-match"), headers.get("if-none-match")
    if match is None and none_match is None:
        return Precondition()
    if none_match is not None and none_match.strip() != "*":
        raise InvalidArgument(
            "s3.not_implemented", "A header you provided implies functionality that is not implemented: "
            "If-None-Match takes only * here.", header="If-None-Match",
        )  # fmt: skip
    if match is not None and none_match is not None:
        raise InvalidArgument("s3.not_implemented", "If-Match and If-None-Match cannot be combined.")
    return Precondition(
        if_match=parse_etags(match) if match is not None else (), if_none_match=("*",) if none_match is not None else ()
    )


def parse_etags(text: str) -> tuple[str, ...]:
    """Entity tags of a list, without quotes and weakness. Raises InvalidArgument for more than ETAGS_MAX."""
    if not text:
        return ()
    tags = tuple(part.strip().removeprefix("W/").strip('"') for part in text.split(","))
    if len(tags) > ETAGS_MAX:
        raise InvalidArgument("s3.invalid_argument", f"More than {ETAGS_MAX} entity tags.")
    return tags


def date_ms(text: str | None) -> int | None:
    """Unix milliseconds of an HTTP date, None where there is none."""
    seconds = _date(text)
    return None if seconds is None else seconds * 1_000


def _date(text: str | None) -> int | None:
    return None if text is None else parse_http_date(text)


def _matches(tags: tuple[str, ...], etag: str) -> bool:
    return "*" in tags or etag in tags


def _failed(condition: str) -> Conflict:
    return Conflict(
        "objects.precondition_failed",
        "At least one of the pre-conditions you specified did not hold",
        condition=condition,
    )
