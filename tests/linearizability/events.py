"""What clients did and saw, as the checker needs it: one event for each call that may have taken effect.

A call that certainly changed nothing (refused before it was sent, say) is not recorded. One whose outcome nobody knows
is recorded with `returned` None: it may have taken effect at any time after it was invoked, or never.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum


class Op(Enum):
    """What a client asked of one key. A value is what tells contents apart (bytes, an etag); None is no object."""

    PUT = "put"
    """`argument` the value; `result` None, or whether there was an object before, if the client was told."""
    PUT_IF = "put_if"
    """`argument` (expected, value): only if the key has that value (None: no object); `result` whether it did."""
    DELETE = "delete"
    """`result` None, or whether there was an object before, if the client was told."""
    GET = "get"
    """`result` the value."""
    EXISTS = "exists"
    """`result` whether there was an object: what a listing shows of a key where it does not show its value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Times are of one clock that all processes share, in any unit."""

    process: str
    op: Op
    key: str
    argument: Hashable = None
    invoked: float
    returned: float | None
    result: Hashable = None

    def __str__(self) -> str:
        until = "      ..." if self.returned is None else f"{self.returned:9.4f}"
        told = "unknown" if self.returned is None else repr(self.result)
        given = "" if self.argument is None else f" {self.argument!r}"
        return f"{self.invoked:9.4f} {until}  {self.process:<8} {self.op.value}{given} -> {told}"


def listing(
    *, process: str, keys: Iterable[str], shown: Mapping[str, Hashable], invoked: float, returned: float
) -> Iterator[Event]:
    """One read of each of `keys`, the keys that the listing could have shown. `shown`: the values it did show."""
    for key in keys:
        yield Event(process=process, op=Op.GET, key=key, invoked=invoked, returned=returned, result=shown.get(key))
