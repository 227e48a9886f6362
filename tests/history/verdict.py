"""What is wrong with a history, and what it consisted of.

Four properties, each with a finding of its own:
* linearizability of every key, lists included: a list is a read of every key it could have shown;
* no acknowledged write lost: what is there at the end is the last acknowledged write or one that nobody knows of;
* contents: nothing is read that nobody wrote;
* refusals: what the cluster said it had not done is never seen.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tests.history.record import CHANGES, NOTHING, History, Operation, Outcome, Verb, is_acknowledged
from tests.linearizability.checker import STEPS_MAX, check

SHOWN_MAX = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`violations` and `undecided` are both failures: a question left open is not a yes."""

    violations: tuple[str, ...]
    undecided: tuple[str, ...]

    @property
    def good(self) -> bool:
        return not self.violations and not self.undecided

    def __str__(self) -> str:
        if self.good:
            return "linearizable, nothing acknowledged was lost"
        lines = [f"{len(self.violations)} violations, {len(self.undecided)} undecided"]
        lines += [*self.violations[:SHOWN_MAX], *self.undecided[:SHOWN_MAX]]
        return "\n".join(lines)


def judge(history: History, *, steps_max: int = STEPS_MAX) -> Verdict:
    found = check(history.events(), steps_max=steps_max)
    violations = [*contents(history), *lost(history), *(str(one) for one in found if not one.undecided)]
    return Verdict(violations=tuple(violations), undecided=tuple(str(one) for one in found if one.undecided))


def contents(history: History) -> Iterator[str]:
    """Every value seen was written by somebody, under that key, and not refused."""
    written: dict[tuple[str, str], Outcome] = {}
    for operation in history.operations:
        if operation.verb in CHANGES and operation.value:
            written[operation.key, operation.value] = operation.outcome
    for operation in history.operations:
        for key, value in _seen(operation):
            outcome = written.get((key, value))
            if outcome is None:
                yield f"key {key!r}: {operation.verb.value} saw {value}, which nobody wrote ({_brief(operation)})"
            elif outcome in {Outcome.REFUSED, Outcome.FAILED}:
                yield f"key {key!r}: {operation.verb.value} saw {value}, whose put was {outcome.value}"


def lost(history: History) -> Iterator[str]:
    """The last read of each key finds nothing older than what was acknowledged before it began."""
    by_key: dict[str, list[Operation]] = defaultdict(list)
    for operation in history.operations:
        if operation.verb is not Verb.LIST:
            by_key[operation.key].append(operation)
    for key, operations in sorted(by_key.items()):
        reads = [one for one in operations if one.verb is Verb.GET and one.outcome is Outcome.OK]
        if reads:
            last = max(reads, key=lambda one: one.start)
            yield from _lost_to(last, key, [one for one in operations if one.verb in CHANGES])


def _lost_to(read: Operation, key: str, changes: Sequence[Operation]) -> Iterator[str]:
    acknowledged = [one for one in changes if one.outcome is Outcome.OK and one.end < read.start]
    if not acknowledged:
        return
    newest = max(acknowledged, key=lambda one: one.start)
    makers = [one for one in changes if one.value == read.value and one.outcome in {Outcome.OK, Outcome.UNKNOWN}]
    possible = [one for one in makers if one.outcome is Outcome.UNKNOWN or one.end >= newest.start]
    if not possible:
        kind = "there is nothing" if read.value == NOTHING else f"an older value {read.value}"
        yield f"key {key!r}: an acknowledged {newest.verb.value} is lost: {kind} ({_brief(newest)}; {_brief(read)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What a run consisted of."""

    operations: dict[str, int]
    outcomes: dict[str, int]
    faults: dict[str, int]
    unknown: int
    """Changes that may or may not have happened."""
    gap_seconds: float
    """The longest time in which no change was acknowledged."""
    gap_at: float
    seconds: float

    def __str__(self) -> str:
        def listed(counted: dict[str, int]) -> str:
            return ", ".join(f"{count} {what}" for what, count in sorted(counted.items()))

        return (
            f"{sum(self.operations.values())} operations in {self.seconds:.0f} s: {listed(self.operations)}\n"
            f"outcomes: {listed(self.outcomes)}; {self.unknown} changes of unknown outcome\n"
            f"{sum(self.faults.values())} faults: {listed(self.faults)}\n"
            f"longest time without an acknowledged change: {self.gap_seconds:.1f} s, at {self.gap_at:.1f} s"
        )


def counts(history: History) -> Counts:
    operations = history.operations
    ends = sorted(one.end for one in operations if is_acknowledged(one))
    steps = [(later - earlier, earlier) for earlier, later in pairwise(ends)]
    gap, at = max(steps, default=(0.0, 0.0))
    return Counts(
        operations=dict(Counter(one.verb.value for one in operations)),
        outcomes=dict(Counter(one.outcome.value for one in operations)),
        faults=dict(Counter(one.what for one in history.faults if not one.what.startswith("end "))),
        unknown=sum(1 for one in operations if one.outcome is Outcome.UNKNOWN and one.verb in CHANGES),
        gap_seconds=gap,
        gap_at=at,
        seconds=ends[-1] - ends[0] if ends else 0.0,
    )


def _seen(operation: Operation) -> Iterator[tuple[str, str]]:
    if operation.outcome is not Outcome.OK:
        return
    if operation.verb is Verb.GET and operation.value:
        yield operation.key, operation.value
    yield from operation.shown.items()


def _brief(operation: Operation) -> str:
    return f"{operation.process} through {operation.node} at {operation.start:.3f}-{operation.end:.3f} s"
