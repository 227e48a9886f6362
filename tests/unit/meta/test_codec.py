"""Bytes of commands, questions, answers, outcomes."""

from __future__ import annotations

import dataclasses
import types
import typing
from enum import IntEnum
from typing import Any

import pytest

from dwd.base.errors import Conflict, Corrupt, InvariantViolation, VersionRefused
from dwd.base.ids import LogIndex, Stamp
from dwd.meta import codec
from dwd.meta.core.apply import Envelope, RegisterSession, SetVersion
from dwd.meta.core.control.commands import ControlCommand, CreateUser
from dwd.meta.core.outcome import decode_outcome, encode_outcome
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.shard.commands import PutObject, ShardCommand

COMMANDS = (*typing.get_args(ControlCommand), *typing.get_args(ShardCommand), RegisterSession, SetVersion)


def sample(hint: Any, *, full: bool, salt: int = 0) -> Any:
    """A value of a type: every field set, or as empty as can be."""
    origin = typing.get_origin(hint)
    if origin is tuple:
        inner = typing.get_args(hint)[0]
        return tuple(sample(inner, full=full, salt=n) for n in range(3)) if full else ()
    if origin in (types.UnionType, typing.Union):
        inner = next(part for part in typing.get_args(hint) if part is not types.NoneType)
        return sample(inner, full=full) if full else None
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        return hint(
            **{f.name: sample(hints[f.name], full=full, salt=n) for n, f in enumerate(dataclasses.fields(hint))}
        )
    base = getattr(hint, "__supertype__", hint)
    if isinstance(base, type) and issubclass(base, IntEnum):
        return list(base)[-1 if full else 0]
    return {
        int: (1 << 62) + salt if full else 0, str: f"é{salt}" if full else "", bytes: b"\x00\xff" if full else b"",
        bool: full,
    }[base]  # fmt: skip


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("kind", COMMANDS)
def test_command_is_the_same_after_a_round_trip(kind: type[Any], full: bool) -> None:
    envelope = Envelope(session=1 << 62, sequence=3, lowest=2, version=1, command=sample(kind, full=full))
    assert codec.decode_envelope(codec.encode_envelope(envelope)) == envelope


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("kind", list(codec._questions.case_of))
def test_question_is_the_same_after_a_round_trip(kind: type[Any], full: bool) -> None:
    assert codec.decode_question(codec.encode_question(sample(kind, full=full))) == sample(kind, full=full)


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("kind", list(codec._answers.case_of))
def test_answer_is_the_same_after_a_round_trip(kind: type[Any], full: bool) -> None:
    assert codec.decode_answer(codec.encode_answer(sample(kind, full=full))) == sample(kind, full=full)


@pytest.mark.parametrize("encoded", [b"\xff\xff\xff", b"\x0a\x05x"])
def test_bytes_are_refused_when_they_are_no_message(encoded: bytes) -> None:
    with pytest.raises(Corrupt):
        codec.decode_envelope(encoded)


def test_command_is_refused_when_it_is_not_known() -> None:
    with pytest.raises(VersionRefused):
        codec.decode_envelope(b"\xfa\x7f\x00")


def test_command_is_refused_when_it_is_too_large() -> None:
    command = PutObject(bucket="b", key="k", bucket_epoch=1, size=1, etag="e", inline=b"x" * (1 << 20))
    with pytest.raises(InvariantViolation):
        codec.encode_envelope(Envelope(session=1, sequence=1, lowest=1, version=1, command=command))


def test_golden_bytes_of_the_first_version_still_decode() -> None:
    """A log written by the first release; never change this line."""
    golden = bytes.fromhex("08071003180220019207090a05616c6963651001")
    assert codec.decode_envelope(golden) == Envelope(
        session=7, sequence=3, lowest=2, version=1, command=CreateUser(name="alice", admin=True)
    )


@pytest.mark.parametrize(
    "outcome",
    [
        Receipt(index=LogIndex(1 << 62), stamp=Stamp(5), existed=True, size=1 << 40, count=7, more=True),
        Conflict("objects.precondition_failed", "no", hint="h", part=3),
    ],
)
def test_outcome_is_the_same_after_a_round_trip(outcome: Any) -> None:
    assert repr(decode_outcome(encode_outcome(outcome))) == repr(outcome)


def test_outcome_is_refused_when_malformed() -> None:
    with pytest.raises(Corrupt):
        decode_outcome(b"\x07nothing")
