"""A history on disk: JSON lines, written as things happen, so that an interrupted run keeps what it saw.

    {"kind": "run", "seed", "nodes", "minutes"}
    {"kind": "op", "process", "op", "key", "node", "start", "end", "value", "expected", "outcome", "shown", "said"}
    {"kind": "fault", "at", "what", "on"}

Times are seconds of one monotonic clock since the start. A value is the MD5 of an object's bytes, "" stands for no
object.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import IO, Any

from tests.linearizability.events import Event, Op, listing

NOTHING = ""


class Verb(Enum):
    PUT = "put"
    PUT_IF_NONE = "put-if-none"
    PUT_IF_MATCH = "put-if-match"
    DELETE = "delete"
    GET = "get"
    LIST = "list"


class Outcome(Enum):
    """What the client was told."""

    OK = "ok"
    FAILED = "failed"
    """A condition did not hold: the object was seen, nothing was changed."""
    REFUSED = "refused"
    """The cluster promised that nothing was changed."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """`key` of a list is its prefix, `keys` what it could have shown, `shown` what it did. `value` of a get is what was
    read, of a put what was written; `expected` is what If-Match asked for.
    """

    process: str
    verb: Verb
    key: str
    node: str
    start: float
    end: float
    outcome: Outcome
    value: str = NOTHING
    expected: str = NOTHING
    keys: tuple[str, ...] = ()
    shown: Mapping[str, str] = field(default_factory=dict)
    said: str = ""


CHANGES = {Verb.PUT, Verb.PUT_IF_NONE, Verb.PUT_IF_MATCH, Verb.DELETE}


def is_acknowledged(operation: Operation) -> bool:
    """Whether it is a change that the cluster said it had made."""
    return operation.outcome is Outcome.OK and operation.verb in CHANGES


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Something the nemesis did to `on`, or ended."""

    at: float
    what: str
    on: tuple[str, ...]


@dataclass(slots=True)
class History:
    """`writer`: where every addition goes too."""

    seed: int = 0
    minutes: float = 0.0
    operations: list[Operation] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    writer: IO[str] | None = None

    def begin(self) -> None:
        self._write({"kind": "run", "seed": self.seed, "minutes": self.minutes})

    def add(self, operation: Operation) -> None:
        self.operations.append(operation)
        plain = asdict(operation) | {"verb": operation.verb.value, "outcome": operation.outcome.value}
        self._write({"kind": "op", **{name: value for name, value in plain.items() if value not in ("", (), {})}})

    def note(self, fault: Fault) -> None:
        self.faults.append(fault)
        self._write({"kind": "fault", **asdict(fault)})

    def events(self) -> Iterator[Event]:
        """As the checker wants them."""
        for operation in self.operations:
            yield from events_of(operation)

    def _write(self, line: dict[str, Any]) -> None:
        if self.writer is not None:
            self.writer.write(json.dumps(line) + "\n")
            self.writer.flush()


def load(path: Path) -> History:
    """Raises ValueError for a line that is none of a history; a last one cut short is passed over."""
    history = History()
    lines = path.read_text().splitlines()
    for number, text in enumerate(lines):
        try:
            line = json.loads(text)
        except ValueError:
            if number == len(lines) - 1:
                break
            raise
        match line.pop("kind"):
            case "run":
                history.seed, history.minutes = line["seed"], line["minutes"]
            case "op":
                made = {"verb": Verb(line.pop("verb")), "outcome": Outcome(line.pop("outcome"))}
                line |= {"key": line.get("key", ""), "keys": tuple(line.get("keys", ()))}
                history.operations.append(Operation(**made, **line))
            case "fault":
                history.faults.append(Fault(at=line["at"], what=line["what"], on=tuple(line["on"])))
            case other:
                raise ValueError(f"not a line of a history: {other}")
    return history


def events_of(operation: Operation) -> Iterable[Event]:
    """What it says about keys. What the cluster promised not to have done is no event: if it was done all the same,
    somebody reads a value that nobody wrote.
    """
    told = operation.outcome in {Outcome.OK, Outcome.FAILED}
    if operation.outcome is Outcome.REFUSED:
        return ()
    if operation.verb is Verb.LIST:
        if not told:
            return ()
        return listing(
            process=operation.process, keys=operation.keys, shown=operation.shown,
            invoked=operation.start, returned=operation.end,
        )  # fmt: skip
    held = operation.value or None
    op, argument, result = {
        Verb.PUT: (Op.PUT, held, None),
        Verb.PUT_IF_NONE: (Op.PUT_IF, (None, held), operation.outcome is Outcome.OK),
        Verb.PUT_IF_MATCH: (Op.PUT_IF, (operation.expected, held), operation.outcome is Outcome.OK),
        Verb.DELETE: (Op.DELETE, None, None),
        Verb.GET: (Op.GET, None, held),
    }[operation.verb]
    return (
        Event(
            process=operation.process, op=op, key=operation.key, argument=argument,
            invoked=operation.start, returned=operation.end if told else None, result=result,
        ),
    )  # fmt: skip
