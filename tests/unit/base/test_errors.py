"""The error tree, its trip over the wire and its exit codes."""

from __future__ import annotations

import inspect
import json
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwd.base import errors, wire
from dwd.base.exits import Exit, exit_code

TREE = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.DwError)]


def made(kind: type[errors.DwError]) -> errors.DwError:
    if kind is errors.InvariantViolation:
        return errors.InvariantViolation("went wrong", group=3)
    return kind("test.code", "went wrong", hint="try this", group=3, name="x", share=0.5, last=True)


@pytest.mark.parametrize("kind", TREE)
def test_error_is_the_same_when_pickled(kind: type[errors.DwError]) -> None:
    error = made(kind)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is kind
    assert (copy.code, copy.message, copy.hint, copy.fields) == (error.code, error.message, error.hint, error.fields)


def test_every_kind_crosses_the_wire_when_it_may() -> None:
    assert set(errors.KINDS.values()) == set(TREE) - {errors.DwError, errors.InvariantViolation}


@pytest.mark.parametrize("kind", list(errors.KINDS.values()))
def test_error_is_the_same_when_sent_over_the_wire(kind: type[errors.DwError]) -> None:
    error = made(kind)
    back = wire.decode(wire.encode(error))
    assert type(back) is kind
    assert (back.code, back.message, back.hint, back.fields) == (error.code, error.message, error.hint, error.fields)


def test_violated_invariant_arrives_as_a_plain_error_when_sent_over_the_wire() -> None:
    back = wire.decode(wire.encode(errors.InvariantViolation("broken", group=1)))
    assert type(back) is errors.DwError
    assert back.code == "invariant.violated"


@pytest.mark.parametrize("character", ["x", "é", "\N{PILE OF POO}", "\ud800", "\0"])
@pytest.mark.parametrize("length", [10, 900, 100_000])
def test_kind_and_code_arrive_when_the_text_is_long(character: str, length: int) -> None:
    text = character * length
    encoded = wire.encode(errors.NotLeader("raft.not_leader", text, hint=text, leader_node=7, why=text))
    assert len(encoded) <= wire.METADATA_BYTES_MAX
    back = wire.decode(encoded)
    assert type(back) is errors.NotLeader
    assert back.code == "raft.not_leader"
    assert back.message
    assert text.startswith(back.message)


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps).map(str.encode)
)
def test_unreadable_bytes_become_an_error_when_decoded(encoded: bytes) -> None:
    assert wire.decode(encoded).code == "rpc.unreadable_error"


@pytest.mark.parametrize("field", ["kind", "code", "message", "hint", "fields"])
def test_bytes_become_an_error_when_a_field_is_missing(field: str) -> None:
    document = json.loads(wire.encode(made(errors.Busy)))
    del document[field]
    assert isinstance(wire.decode(json.dumps(document).encode()), errors.DwError)


def test_retryable_kinds_are_those_where_trying_again_can_help() -> None:
    retryable = {kind.__name__ for kind in TREE if kind.retryable}
    assert retryable == {"Busy", "Unavailable", "NotLeader", "OutcomeUnknown", "DeadlineExceeded", "NoSpace"}


def test_leader_is_known_when_the_error_names_it() -> None:
    assert errors.NotLeader("raft.not_leader", "no", leader_node=7).leader_node == 7
    assert errors.NotLeader("raft.not_leader", "no").leader_node == 0


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.DwError, Exit.FAILED),
        (errors.InvariantViolation, Exit.FAILED),
        (errors.Corrupt, Exit.FAILED),
        (errors.StorageFailed, Exit.FAILED),
        (errors.VersionRefused, Exit.FAILED),
        (errors.InvalidArgument, Exit.USAGE),
        (errors.NotFound, Exit.NOT_FOUND),
        (errors.SafetyRefused, Exit.SAFETY_REFUSED),
        (errors.Busy, Exit.UNAVAILABLE),
        (errors.Unavailable, Exit.UNAVAILABLE),
        (errors.NotLeader, Exit.UNAVAILABLE),
        (errors.DeadlineExceeded, Exit.UNAVAILABLE),
        (errors.NoSpace, Exit.UNAVAILABLE),
        (errors.OutcomeUnknown, Exit.OUTCOME_UNKNOWN),
        (errors.Unauthenticated, Exit.DENIED),
        (errors.PermissionDenied, Exit.DENIED),
        (errors.Conflict, Exit.CONFLICT),
        (errors.AlreadyExists, Exit.CONFLICT),
    ],
)
def test_exit_code_is_the_kinds_own_when_it_ends_a_command(kind: type[errors.DwError], code: Exit) -> None:
    assert exit_code(made(kind)) is code


def test_exit_codes_are_those_promised_to_scripts() -> None:
    assert [int(code) for code in Exit] == list(range(9))
