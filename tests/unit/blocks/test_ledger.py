"""The record of repairs: what is kept, found, and forgotten."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dwd.base.ids import BlockId, DeviceId, GroupId
from dwd.blocks import ledger as ledgers
from dwd.blocks.ledger import AGE_MS_MAX, Entry, Ledger, RepairState, Wanted

NOW = 2 * AGE_MS_MAX


def entry(number: int = 1, **changes: object) -> Entry:
    made = Entry(
        at_ms=NOW + number, block=BlockId(number.to_bytes(16)), group=GroupId(1), bucket="b", key="k",
        state=RepairState.DONE, cause="dead", margin=1, reason="whole", decoded=True,
        read=((0, DeviceId(7)),), written=((2, DeviceId(9)),), read_bytes=4, written_bytes=2, waited_ms=3, took_ms=5,
        tries=0,
    )  # fmt: skip
    return replace(made, **changes)  # type: ignore[arg-type]


def found(ledger: Ledger, **wanted: object) -> list[int]:
    ledger.flush(ledger.take(), NOW)
    return [int.from_bytes(e.block) for e in ledger.find(Wanted(**wanted))]  # type: ignore[arg-type]


def test_entries_come_back_as_they_were_noted_newest_first(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "heal.sqlite")
    for number in (1, 2):
        ledger.note(entry(number))
    ledger.flush(ledger.take(), NOW)
    ledger.close()
    again = Ledger(tmp_path / "heal.sqlite")
    assert again.find(Wanted()) == [entry(2), entry(1)]
    again.close()


def test_entries_are_chosen_by_state_cause_bucket_and_block() -> None:
    ledger = Ledger(":memory:")
    ledger.note(entry(1, state=RepairState.PARKED))
    ledger.note(entry(2, cause="rebalance"))
    ledger.note(entry(3, bucket="other"))
    assert found(ledger, state="parked") == [1]
    assert found(ledger, cause="rebalance") == [2]
    assert found(ledger, bucket="other") == [3]
    assert found(ledger, block=(3).to_bytes(16).hex()) == [3]
    assert found(ledger, limit=2) == [3, 2]


def test_a_block_that_fails_again_and_again_takes_one_row_until_it_is_done() -> None:
    ledger = Ledger(":memory:")
    for tries in range(1, 4):
        ledger.note(entry(1, state=RepairState.FAILED, tries=tries, at_ms=NOW + tries))
    assert found(ledger) == [1]
    assert ledger.find(Wanted())[0].tries == 3
    ledger.note(entry(1, at_ms=NOW + 9))
    assert [e.state for e in (found(ledger), ledger.find(Wanted()))[1]] == [RepairState.DONE, RepairState.FAILED]


def test_the_oldest_go_when_there_are_too_many_or_they_are_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "ROWS_MAX", 3)
    ledger = Ledger(":memory:")
    for number in range(1, 6):
        ledger.note(entry(number))
    ledger.note(entry(9, at_ms=NOW - AGE_MS_MAX - 1))
    assert found(ledger) == [5, 4, 3]


def test_a_ledger_that_cannot_be_read_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "heal.sqlite").write_bytes(b"not a database" * 100)
    ledger = Ledger(tmp_path / "heal.sqlite")
    ledger.note(entry(1))
    assert found(ledger) == [1]
    ledger.close()
