"""The session table: once, bounded, forgotten by log position."""

from __future__ import annotations

import pytest

from dwd.base.errors import Conflict, DwError
from dwd.base.ids import LogIndex
from dwd.meta.core.apply import RegisterSession
from dwd.meta.core.sessions import SESSION_IDLE_ENTRIES, SESSIONS_MAX, WINDOW_MAX, Sessions
from dwd.meta.core.shard.commands import CreateUpload
from tests.twins.meta_group import Group


def make(number: int) -> CreateUpload:
    return CreateUpload(bucket="b", key="k", bucket_epoch=1, upload=f"{number:032x}")


def code(outcome: object) -> str | None:
    return outcome.code if isinstance(outcome, DwError) else None


def test_refusal_is_remembered_like_any_result(shard: Group) -> None:
    shard.send(make(1))
    refused = shard.outcome(make(1))
    again = shard.machine.apply([shard.entry(make(2), lowest=0)])[0]
    assert (code(refused), code(again)) == ("meta.upload_exists", "meta.upload_exists")


def test_unknown_session_is_never_executed(shard: Group) -> None:
    assert code(shard.outcome(make(1), session=99)) == "meta.session_expired"
    assert shard.sql("SELECT count(*) FROM uploads") == [(0,)]


def test_acknowledged_sequence_is_never_executed_again(shard: Group) -> None:
    shard.send(make(1))
    shard.sequence = 10
    shard.machine.apply([shard.entry(make(2))])
    late = shard.machine.apply([shard.entry(make(3), sequence=1, lowest=0)])[0]
    assert code(late) == "meta.sequence_acknowledged"
    assert shard.sql("SELECT count(*) FROM uploads") == [(2,)]


def test_sequence_past_the_window_is_refused(shard: Group) -> None:
    outcome = shard.machine.apply([shard.entry(make(1), sequence=WINDOW_MAX, lowest=0)])[0]
    assert code(outcome) == "meta.session_window"


def test_results_below_the_lowest_are_dropped(shard: Group) -> None:
    for number in range(1, 40):
        shard.send(make(number))
    (row,) = shard.sql("SELECT length(results) FROM sessions")
    assert row[0] < 100


def test_least_recently_used_session_is_forgotten_when_the_table_is_full() -> None:
    table = Sessions()
    for number in range(SESSIONS_MAX):
        table.register(number + 1, LogIndex(number))
    table.recall(1, 0, 0, LogIndex(SESSIONS_MAX))
    table.register(1 << 40, LogIndex(SESSIONS_MAX + 1))
    assert set(table._removed) == {2}


def test_idle_session_is_forgotten_by_log_position() -> None:
    table = Sessions()
    table.register(1, LogIndex(1))
    table.register(2, LogIndex(SESSION_IDLE_ENTRIES + 1))
    assert not table._removed
    table.register(3, LogIndex(SESSION_IDLE_ENTRIES + 2))
    assert table._removed == {1}


def test_forgotten_session_is_not_made_again_when_its_registration_comes_late() -> None:
    table = Sessions()
    for number in range(SESSIONS_MAX):
        table.register(number + 1, LogIndex(number + 1))
    last = SESSIONS_MAX + 1
    table.register(1 << 40, LogIndex(last))
    assert table._removed == {1}
    with pytest.raises(Conflict) as caught:
        table.register(1, LogIndex(last + 1))
    assert (caught.value.code, caught.value.fields["index"]) == ("meta.session_stale", last + 1)
    table.register(1 << 41, LogIndex(last + 2), known=last + 1)
    table.register(2**41, LogIndex(last + 3))  # known still: repeatable at any time


def test_forgetting_is_remembered_when_the_replica_starts_again(shard: Group) -> None:
    shard.machine.apply([shard.entry(RegisterSession(), session=8)])
    shard.machine._opened.engine._sessions._remove(8, LogIndex(5))  # type: ignore[union-attr]
    shard.send(make(1))
    directory = shard.directory
    shard.close()
    again = Group(directory)
    late = again.machine.apply([again.entry(RegisterSession(), session=8, sequence=4)])[0]
    early = again.machine.apply([again.entry(RegisterSession(), session=8, sequence=5)])[0]
    assert (code(late), code(early)) == ("meta.session_stale", None)
    again.close()


def test_session_may_register_twice(shard: Group) -> None:
    shard.send(make(1))
    shard.machine.apply([shard.entry(RegisterSession())])
    again = shard.machine.apply([shard.entry(make(1), lowest=0)])[0]
    assert code(again) is None
