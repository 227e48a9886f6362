"""The verdict on histories whose truth is known: each kind of lie is found, and a question left open is no yes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.history.record import Fault, History, Operation, Outcome, Verb, load
from tests.history.verdict import counts, judge


def operation(verb: Verb, start: float, end: float, **more: Any) -> Operation:
    return Operation(
        process=more.pop("process", f"p{start}"), verb=verb, key=more.pop("key", "k"), node="n1", start=start, end=end,
        outcome=more.pop("outcome", Outcome.OK), **more,
    )  # fmt: skip


def put(value: str, start: float, end: float, **more: Any) -> Operation:
    return operation(Verb.PUT, start, end, value=value, **more)


def get(value: str, start: float, end: float, **more: Any) -> Operation:
    return operation(Verb.GET, start, end, value=value, **more)


def delete(start: float, end: float, **more: Any) -> Operation:
    return operation(Verb.DELETE, start, end, **more)


def listed(start: float, end: float, keys: tuple[str, ...], **shown: str) -> Operation:
    return operation(Verb.LIST, start, end, key="", keys=keys, shown=shown)


def violations(*operations: Operation) -> list[str]:
    verdict = judge(History(operations=list(operations)))
    assert not verdict.undecided
    return list(verdict.violations)


def test_history_is_good_when_every_answer_has_its_place() -> None:
    assert not violations(
        put("a", 0, 1), put("b", 0.5, 2), get("a", 0.6, 0.9), get("b", 2.1, 3), delete(4, 5), get("", 6, 7),
        operation(Verb.PUT_IF_NONE, 8, 9, value="c"), listed(10, 11, ("k", "j"), k="c"),
        operation(Verb.PUT_IF_MATCH, 12, 13, value="d", expected="x", outcome=Outcome.FAILED), get("c", 14, 15),
    )  # fmt: skip


def test_violation_is_found_when_a_read_is_stale() -> None:
    assert violations(put("a", 0, 1), put("b", 2, 3), get("a", 4, 5), get("b", 6, 7))


def test_violation_is_found_when_two_conditional_updates_of_one_value_win() -> None:
    lost_update = [
        put("a", 0, 1),
        operation(Verb.PUT_IF_MATCH, 2, 5, value="b", expected="a"),
        operation(Verb.PUT_IF_MATCH, 3, 6, value="c", expected="a"),
        get("c", 7, 8),
    ]
    assert violations(*lost_update)


def test_violation_is_found_when_a_deleted_object_is_back() -> None:
    assert violations(put("a", 0, 1), delete(2, 3), get("", 4, 5), get("a", 6, 7))


def test_violation_is_found_when_an_acknowledged_write_is_gone() -> None:
    for final in (get("", 4, 5), get("a", 4, 5)):
        found = violations(put("a", 0, 1), put("b", 2, 3), final)
        assert any("is lost" in one for one in found), found


def test_nothing_is_lost_when_what_is_there_may_be_newer() -> None:
    assert not violations(put("a", 0, 1), put("b", 0.5, 9, outcome=Outcome.UNKNOWN), put("c", 2, 3), get("b", 10, 11))
    assert not violations(put("a", 0, 1), delete(0.5, 9, outcome=Outcome.UNKNOWN), get("", 10, 11))


def test_violation_is_found_when_contents_are_of_nobody() -> None:
    assert any("nobody wrote" in one for one in violations(put("a", 0, 1), get("rot", 2, 3)))
    assert any("nobody wrote" in one for one in violations(put("a", 0, 1), get("a", 2, 3, key="other")))


def test_violation_is_found_when_a_refused_write_was_done() -> None:
    assert any("was refused" in one for one in violations(put("a", 0, 1, outcome=Outcome.REFUSED), get("a", 2, 3)))


def test_violation_is_found_when_a_list_leaves_a_stable_key_out() -> None:
    assert violations(put("a", 0, 1), listed(2, 3, ("k",)))
    assert not violations(put("a", 0, 5), listed(2, 3, ("k",)))


def test_violation_is_found_when_a_list_shows_what_was_deleted_before() -> None:
    assert violations(put("a", 0, 1), delete(2, 3), listed(4, 5, ("k",), k="a"))


def test_verdict_is_not_good_when_a_key_is_undecided() -> None:
    verdict = judge(History(operations=[put("a", 0, 1), get("a", 2, 3)]), steps_max=1)
    assert not verdict.good
    assert verdict.undecided
    assert not verdict.violations


def test_verdict_comes_soon_when_a_key_has_many_unknown_outcomes() -> None:
    operations = [put(f"u{n}", n, n + 0.1, outcome=Outcome.UNKNOWN) for n in range(60)]
    for n in range(400):
        operations += [put(f"v{n}", n, n + 0.4), get(f"v{n}", n + 0.5, n + 0.9), put(f"w{n}", n + 0.2, n + 0.45)]
    wrong = [*operations, get("v0", 500, 501)]
    assert judge(History(operations=operations), steps_max=200_000).undecided == ()
    assert not judge(History(operations=wrong), steps_max=200_000).good


def test_history_is_the_same_when_it_was_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    with path.open("w") as writer:
        written = History(seed=7, minutes=1.5, writer=writer)
        written.begin()
        for one in (put("a", 0, 1), get("", 2, 3), listed(4, 5, ("k", "j"), k="a"), delete(6, 7, said="503")):
            written.add(one)
        written.note(Fault(at=1.5, what="kill", on=("n1",)))
        written.note(Fault(at=2.5, what="end kill", on=("n1",)))
    with path.open("a") as cut_short:
        _ = cut_short.write('{"kind": "op", "pro')
    found = load(path)
    assert (found.seed, found.minutes) == (7, 1.5)
    assert found.operations == written.operations
    assert found.faults == written.faults
    assert counts(found) == counts(written)
    assert counts(found).faults == {"kill": 1}
