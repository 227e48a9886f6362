"""The parts without a protocol: counting, the log view, the configuration's bytes, options."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwd.base.errors import Corrupt, InvalidArgument, InvariantViolation
from dwd.base.ids import LogIndex, NodeId, ReplicaId, Stamp, Term
from dwd.raft.core.configuration_codec import decode_configuration, encode_configuration
from dwd.raft.core.log_view import LogView, total_bytes
from dwd.raft.core.options import NodeOptions
from dwd.raft.core.quorum import agreed_index, majority
from dwd.raft.core.types import EMPTY_SNAPSHOT, Configuration, Entry, EntryKind, Member, MemberRole


def entry(index: int, term: int, size: int = 0) -> Entry:
    return Entry(
        index=LogIndex(index), term=Term(term), kind=EntryKind.COMMAND, stamp=Stamp(index * 10), payload=b"x" * size
    )  # fmt: skip


@given(st.lists(st.integers(0, 50), min_size=1, max_size=9))
def test_agreed_index_is_the_highest_on_a_majority_when_counted(matches: list[int]) -> None:
    agreed = agreed_index(matches)
    assert sum(1 for match in matches if match >= agreed) >= majority(len(matches))
    assert sum(1 for match in matches if match > agreed) < majority(len(matches))


@given(st.lists(st.tuples(st.sampled_from("atce"), st.integers(0, 40), st.integers(0, 3)), max_size=40))
def test_log_view_equals_a_plain_list_when_worked_on(steps: list[tuple[str, int, int]]) -> None:
    view, model, base = LogView(EMPTY_SNAPSHOT, ()), {0: Term(0)}, 0
    for kind, number, more in steps:
        last = max(model)
        if kind == "a":
            new = [entry(last + 1 + i, model[last] + more // 2, number) for i in range(1 + more)]
            view.append(new)
            model |= {e.index: e.term for e in new}
        elif kind == "t" and view.cache_first - 1 <= number <= last:
            view.truncate_after(number)
            model = {i: t for i, t in model.items() if i <= number}
        elif kind == "c" and base <= number <= last:
            view.stable = view.last_index
            base = number
            view.compact(replace(EMPTY_SNAPSHOT, index=LogIndex(base), term=model[base], stamp=Stamp(base * 10)))
            model = {i: t for i, t in model.items() if i >= base}
        elif kind == "e":
            view.stable = view.last_index
            view.evict(number, 100)
        assert [view.term_of(i) for i in range(max(model) + 2)] == [model.get(i) for i in range(max(model) + 2)]
        assert view.last_stamp == view.last_index * 10
        assert view.cache_bytes == total_bytes(view.cached_from(0))
        assert [e.index for e in view.cached_from(0)] == list(range(view.cache_first, view.last_index + 1))
        found, term = view.last_at_or_below(number, more)
        assert found <= number
        if found >= base:
            assert model[found] == term <= more
            assert all(t > more for i, t in model.items() if found < i <= number)
        else:
            assert all(t > more for i, t in model.items() if i <= number)
    assert all(a.index + 1 == b.index for a, b in pairwise(view.cached_from(0)))


def test_log_view_refuses_when_a_gap_would_open() -> None:
    view = LogView(EMPTY_SNAPSHOT, [entry(1, 1)])
    with pytest.raises(InvariantViolation):
        view.append([entry(3, 1)])


def test_log_view_refuses_when_terms_would_fall() -> None:
    view = LogView(EMPTY_SNAPSHOT, [entry(1, 2)])
    with pytest.raises(InvariantViolation):
        view.append([entry(2, 1)])


GOLDEN = bytes.fromhex(
    "01 0002 0000000000000001 000000000000000b 00 00000007 7fffffffffffffff 000000000000000c 01 00000000"
)
GOLDEN_CONFIGURATION = Configuration(
    members=(
        Member(node=NodeId(1), replica=ReplicaId(11), role=MemberRole.VOTER, priority=7),
        Member(node=NodeId(2**63 - 1), replica=ReplicaId(12), role=MemberRole.LEARNER, priority=0),
    )
)


GOLDEN_JOINT = bytes.fromhex(
    "02 0002 0000000000000001 000000000000000b 02 00000001 0000000000000002 000000000000000c 00 00000001"
    "0001 000000000000000c 0001 000000000000000c"
)
GOLDEN_JOINT_CONFIGURATION = Configuration(
    members=(
        Member(node=NodeId(1), replica=ReplicaId(11), role=MemberRole.WITNESS),
        Member(node=NodeId(2), replica=ReplicaId(12), role=MemberRole.VOTER),
    ),
    outgoing=(ReplicaId(12),),
    leaving=(ReplicaId(12),),
)


@pytest.mark.parametrize(
    ("configuration", "payload"), [(GOLDEN_CONFIGURATION, GOLDEN), (GOLDEN_JOINT_CONFIGURATION, GOLDEN_JOINT)]
)
def test_configuration_bytes_stay_when_the_code_changes(configuration: Configuration, payload: bytes) -> None:
    assert encode_configuration(configuration) == payload
    assert decode_configuration(payload) == configuration


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        GOLDEN[:-1],
        GOLDEN + b"x",
        b"\x02" + GOLDEN[1:],
        b"\x03" + GOLDEN[1:],
        GOLDEN[:19] + b"\x09" + GOLDEN[20:],
        GOLDEN_JOINT[:-1],
        GOLDEN_JOINT[:-1] + b"\x0d",
        GOLDEN[:3] + GOLDEN[3:24] * 2,
    ],
)
def test_configuration_is_refused_when_malformed(payload: bytes) -> None:
    with pytest.raises(Corrupt):
        decode_configuration(payload)


@pytest.mark.parametrize(
    "wrong",
    [
        {"heartbeat_ticks": 10},
        {"election_ticks_max": 9},
        {"tick_ms": 0},
        {"inflight_messages_max": 0},
        {"append_bytes_max": 64 << 20},
    ],
)
def test_options_are_refused_when_they_contradict(wrong: dict[str, int]) -> None:
    with pytest.raises(InvalidArgument):
        NodeOptions(**wrong)
