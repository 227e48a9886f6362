"""Between the values of dwd.meta.core and their protobuf messages, by name: one plan a type, made at import.

A dataclass and its message have the same name and the same field names; a difference is an InvariantViolation at
import, so neither side can drift. NewTypes are plain on the wire, tuples repeated, `X | None` an optional field.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Callable
from enum import IntEnum
from operator import attrgetter
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError, Message

from dwd.base.errors import Corrupt, InvariantViolation, VersionRefused
from dwd.base.limits import COMMAND_BYTES_MAX
from dwd.meta.core.apply import Checkpoint, Command, Envelope, RegisterSession, SetVersion
from dwd.meta.core.control import commands as control_commands
from dwd.meta.core.control import job_queries
from dwd.meta.core.control import queries as control_queries
from dwd.meta.core.fencing import Fence
from dwd.meta.core.query import Query
from dwd.meta.core.shard import commands as shard_commands
from dwd.meta.core.shard import queries as shard_queries
from dwd.pb.meta.v1 import control_pb2, meta_pb2, shard_pb2

Convert = Callable[[Any], Any]


class _Field(NamedTuple):
    name: str
    to_wire: Convert | None
    """None: as it is."""
    from_wire: Convert | None
    optional: bool


class Plan:
    """How values of one dataclass become messages and come back."""

    def __init__(self, kind: type[Any], message: type[Message]) -> None:
        self.kind = kind
        self.message = message
        hints = typing.get_type_hints(kind)
        names = [field.name for field in dataclasses.fields(kind)]
        wire = {field.name for field in message.DESCRIPTOR.fields}
        if set(names) != wire:
            raise InvariantViolation(f"{kind.__name__} and its message differ in {sorted(set(names) ^ wire)}")
        fields = tuple(_field(name, hints[name]) for name in names)
        self._names = tuple(names)
        self._get: Callable[[Any], tuple[Any, ...]] = attrgetter(*names) if len(names) > 1 else _getter(names)
        self._to_wire = {field.name: field.to_wire for field in fields if field.to_wire is not None}
        self._from_wire = tuple((field.name, field.from_wire) for field in fields if field.from_wire is not None)
        self._optional = tuple(field.name for field in fields if field.optional)
        self._empty: Any = None

    def to_wire(self, value: Any) -> dict[str, Any]:
        """The message's fields: protobuf builds nested messages from dicts faster than from messages."""
        converters = self._to_wire
        return {
            name: converters[name](found) if name in converters else found
            for name, found in zip(self._names, self._get(value), strict=True)
            if found is not None
        }

    def from_wire_nested(self, message: Message) -> Any:
        """Most preconditions and the like are empty: values do not change, so one stands for all of them."""
        if message.ByteSize():
            return self.from_wire(message)
        if self._empty is None:
            self._empty = self.from_wire(message)
        return self._empty

    def from_wire(self, message: Message) -> Any:
        arguments = dict(zip(self._names, self._get(message), strict=True))
        absent = [name for name in self._optional if not message.HasField(name)]
        for name in absent:
            arguments[name] = None
        for name, convert in self._from_wire:
            if name not in absent:
                arguments[name] = convert(arguments[name])
        return self.kind(**arguments)


def _getter(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Like attrgetter of several names, which for one name gives no tuple."""
    return lambda value: tuple(getattr(value, name) for name in names)


_plans: dict[type[Any], Plan] = {}


def plan_of(kind: type[Any]) -> Plan:
    """Made once a type. Raises InvariantViolation when there is no such message, or it differs."""
    known = _plans.get(kind)
    if known is None:
        message = getattr(control_pb2, kind.__name__, None) or getattr(shard_pb2, kind.__name__, None)
        message = message or getattr(meta_pb2, kind.__name__, None)
        if message is None:
            raise InvariantViolation(f"no message stands for {kind.__name__}")
        known = _plans[kind] = Plan(kind, message)
    return known


def _field(name: str, hint: Any) -> _Field:
    origin = typing.get_origin(hint)
    if origin is tuple:
        to_wire, from_wire = _converters(typing.get_args(hint)[0])
        return _Field(name, _each(to_wire), _tuple_of(from_wire), optional=False)
    if origin in (types.UnionType, typing.Union):
        (inner,) = (part for part in typing.get_args(hint) if part is not types.NoneType)
        return _Field(name, *_converters(inner), optional=True)
    return _Field(name, *_converters(hint), optional=False)


def _converters(hint: Any) -> tuple[Convert | None, Convert | None]:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        plan = plan_of(hint)
        return plan.to_wire, plan.from_wire_nested
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return int, _enum(hint)
    return None, None


def _enum(kind: type[IntEnum]) -> Convert:
    def convert(value: int) -> IntEnum:
        try:
            return kind(value)
        except ValueError as error:
            raise VersionRefused("meta.enum_unknown", f"{value} is no {kind.__name__} this daemon knows") from error

    return convert


def _each(convert: Convert | None) -> Convert | None:
    return None if convert is None else lambda values: [convert(value) for value in values]


def _tuple_of(convert: Convert | None) -> Convert:
    return tuple if convert is None else lambda values: tuple([convert(value) for value in values])


class _Union:
    """Values of several types in one oneof of `message`; the case is named after the type, in snake case."""

    def __init__(self, message: type[Message], oneof: str, kinds: tuple[type[Any], ...]) -> None:
        self._message = message
        self._oneof = oneof
        fields = message.DESCRIPTOR.oneofs_by_name[oneof].fields
        cases = {field.message_type.name: field.name for field in fields if field.message_type is not None}
        if set(cases) != {kind.__name__ for kind in kinds}:
            raise InvariantViolation(f"{oneof} and its types differ in {set(cases) ^ {k.__name__ for k in kinds}}")
        self.case_of = {kind: cases[kind.__name__] for kind in kinds}
        self.plan_of_case = {cases[kind.__name__]: plan_of(kind) for kind in kinds}

    def encode(self, value: Any, **others: Any) -> bytes:
        case = self.case_of.get(type(value))
        if case is None:
            raise InvariantViolation(f"{type(value).__name__} is no {self._oneof}")
        wire = self.plan_of_case[case].to_wire(value)
        return self._message(**others, **{case: wire}).SerializeToString()

    def parse(self, encoded: bytes) -> tuple[Any, Any]:
        """The message and the value in it. Raises Corrupt, VersionRefused for a case that is not known."""
        message = self._message()
        try:
            message.ParseFromString(encoded)
        except DecodeError as error:
            raise Corrupt("meta.message_malformed", f"bytes are no {self._oneof}") from error
        case = message.WhichOneof(self._oneof)
        if case is None:
            raise VersionRefused("meta.unknown_kind", f"a {self._oneof} this daemon does not know")
        return message, self.plan_of_case[case].from_wire(getattr(message, case))


def _query_kinds(*modules: types.ModuleType) -> tuple[type[Any], ...]:
    return tuple(
        value
        for module in modules
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Query) and value is not Query
    )


def _answer_of(kind: type[Any]) -> type[Any]:
    """The answer's type that a query names in its base."""
    found: type[Any] = typing.get_args(kind.__orig_bases__[0])[0]
    return found


_QUERIES = _query_kinds(control_queries, job_queries, shard_queries)
_COMMANDS: tuple[type[Any], ...] = (
    RegisterSession,
    Checkpoint,
    SetVersion,
    *typing.get_args(control_commands.ControlCommand),
    *typing.get_args(shard_commands.ShardCommand),
)
_fences = plan_of(Fence)
_commands = _Union(meta_pb2.Envelope, "command", _COMMANDS)
_questions = _Union(meta_pb2.Question, "question", _QUERIES)
_answers = _Union(meta_pb2.Answer, "answer", tuple(dict.fromkeys(_answer_of(kind) for kind in _QUERIES)))


def encode_envelope(envelope: Envelope) -> bytes:
    """Raises InvariantViolation for a command past COMMAND_BYTES_MAX: whoever made it must keep its parts bounded."""
    fence = envelope.fence
    encoded = _commands.encode(
        envelope.command,
        session=envelope.session,
        sequence=envelope.sequence,
        lowest=envelope.lowest,
        version=envelope.version,
        fence=None if fence is None else _fences.to_wire(fence),
    )
    if len(encoded) > COMMAND_BYTES_MAX:
        raise InvariantViolation(f"a {type(envelope.command).__name__} of {len(encoded)} bytes")
    return encoded


def decode_envelope(encoded: bytes) -> Envelope:
    """Raises Corrupt, VersionRefused."""
    message, command = _commands.parse(encoded)
    found: Command = command
    return Envelope(
        session=message.session,
        sequence=message.sequence,
        lowest=message.lowest,
        version=message.version,
        command=found,
        fence=_fences.from_wire(message.fence) if message.HasField("fence") else None,
    )


def encode_question(query: Query[Any]) -> bytes:
    return _questions.encode(query)


def decode_question(encoded: bytes) -> Query[Any]:
    """Raises Corrupt, VersionRefused."""
    found: Query[Any] = _questions.parse(encoded)[1]
    return found


def encode_answer(answer: object) -> bytes:
    return _answers.encode(answer)


def decode_answer(encoded: bytes) -> Any:
    """Raises Corrupt, VersionRefused."""
    return _answers.parse(encoded)[1]
