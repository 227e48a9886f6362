"""Laws of client sessions: once, whatever stands in the log how often, wherever the state went meanwhile."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dwd.base.errors import DwError
from dwd.meta.core import sessions
from dwd.meta.core.apply import RegisterSession
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.shard.commands import CreateUpload
from dwd.meta.core.shard.queries import GetUsage
from tests.twins.meta_group import Group, content_hash

SENT = st.tuples(st.sampled_from([7, 8]), st.integers(0, 5), st.integers(0, 3), st.sampled_from(["", "move", "reopen"]))
"""Session, sequence, how far below it the lowest unacknowledged one is, and what happens to the replica first."""


class _Client:
    """What a session's client may have been told: the first answer to each sequence, for good."""

    def __init__(self) -> None:
        self.lowest = 0
        self.answers: dict[int, str] = {}


def moved(group: Group, root: Path, turn: int) -> Group:
    """The state goes by snapshot to a replica that knew nothing."""
    copy = root / f"copy-{turn}"
    meta = group.machine.copy_snapshot(copy)
    other = Group(root / f"replica-{turn}")
    other.machine.install_snapshot(copy, meta)
    assert content_hash(other.machine.live.path) == content_hash(group.machine.live.path)
    group.close()
    return other


@settings(max_examples=40, deadline=None)
@given(sent=st.lists(SENT, min_size=1, max_size=25))
def test_command_takes_effect_once_when_the_state_moves_by_snapshot_or_restarts(
    sent: list[tuple[int, int, int, str]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        group = Group(root / "replica")
        group.machine.apply([group.entry(RegisterSession(), session=8, sequence=0)])
        clients = {7: _Client(), 8: _Client()}
        executed: set[tuple[int, int]] = set()
        for turn, (session, sequence, below, fate) in enumerate(sent):
            if fate == "move":
                group = moved(group, root, turn)
            elif fate == "reopen":
                directory = group.directory
                group.close()
                group = Group(directory)
            client = clients[session]
            lowest = max(0, sequence - below)
            make = CreateUpload(bucket="b", key="k", bucket_epoch=1, upload=f"{session:016x}{sequence:016x}")
            (found,) = group.machine.apply([group.entry(make, session=session, sequence=sequence, lowest=lowest)])
            client.lowest = max(client.lowest, lowest)
            if sequence < client.lowest:
                assert _code(found) == "meta.sequence_acknowledged"
                continue
            executed.add((session, sequence))
            assert isinstance(found, Receipt)
            assert client.answers.setdefault(sequence, repr(found)) == repr(found), "every copy is answered alike"
        usage = group.ask(GetUsage(bucket="b")).buckets
        assert (usage[0].uploads if usage else 0) == len(executed)
        group.close()


@settings(max_examples=30, deadline=None)
@given(
    steps=st.lists(st.tuples(st.sampled_from([7, 8, 9]), st.booleans()), min_size=1, max_size=20), first=st.booleans()
)
def test_command_of_a_session_that_was_never_registered_is_never_executed(
    steps: list[tuple[int, bool]], first: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        group = Group(Path(folder))
        registered = {7}
        count = 0
        for number, (session, register) in enumerate(steps, start=1):
            if register and (first or session != 9):
                group.machine.apply([group.entry(RegisterSession(), session=session, sequence=0)])
                registered.add(session)
            make = CreateUpload(bucket="b", key="k", bucket_epoch=1, upload=f"{number:032x}")
            (found,) = group.machine.apply([group.entry(make, session=session, sequence=number, lowest=number)])
            if session in registered:
                count += 1
                assert isinstance(found, Receipt)
            else:
                assert _code(found) == "meta.session_expired"
        assert group.sql("SELECT count(*) FROM uploads") == [(count,)]
        group.close()


SMALL = 2
STEPS = st.lists(
    st.tuples(st.sampled_from(["register", "late", "command", "again"]), st.integers(0, 3)), min_size=1, max_size=40
)


@settings(max_examples=60, deadline=None)
@example(steps=[("register", 0), ("command", 0), ("register", 1), ("register", 2), ("late", 0), ("again", 0)])
@given(steps=STEPS)
def test_command_is_never_done_twice_when_registrations_and_commands_come_late(steps: list[tuple[str, int]]) -> None:
    """A table of two sessions; whatever was ever sent may come again at any time, registrations too."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patched:
        patched.setattr(sessions, "SESSIONS_MAX", SMALL)
        group = Group(Path(folder))
        known: dict[int, int] = {}
        sent: list[int] = []
        done: list[int] = []
        for kind, which in steps:
            if kind == "register" and which not in known:
                known[which] = group.machine.position().index
            if kind in {"register", "late"} and which in known:
                position = known[which]
                entry = group.entry(RegisterSession(), session=100 + which, sequence=position, lowest=position)
                group.machine.apply([entry])
            elif kind in {"command", "again"} and (kind == "command" or which in sent):
                sent.append(which)
                # without a name of its own, or the second would be refused as one that exists
                make = CreateUpload(
                    bucket="b", key="k", bucket_epoch=1, upload=f"{group.machine.position().index:032x}"
                )
                before = group.sql("SELECT count(*) FROM uploads")
                group.machine.apply([group.entry(make, session=100 + which, sequence=0, lowest=0)])
                if group.sql("SELECT count(*) FROM uploads") != before:
                    done.append(which)
        assert len(done) == len(set(done)), "a command took effect twice"
        group.close()


def _code(outcome: Any) -> str:
    assert isinstance(outcome, DwError)
    return outcome.code
