"""The host's parts on their own: the persister's order, rounds of reads, the sender's copies, watchers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from dwd.base.errors import Busy, Corrupt, DwError, OutcomeUnknown, Unavailable
from dwd.base.ids import GroupId, LogIndex, NodeId, ReplicaId, Stamp, Term
from dwd.base.units import MIB
from dwd.raft.applier import GATHER_ENTRIES, Applier
from dwd.raft.core.effects import Accepted, ReadReady
from dwd.raft.core.messages import Append
from dwd.raft.core.types import EMPTY_SNAPSHOT, Entry, EntryKind, HardState
from dwd.raft.leadership import Leadership
from dwd.raft.open_machines import OpenMachines
from dwd.raft.persister import WRITE_BYTES_MAX, Persister
from dwd.raft.ports import Doubt, LogWrite, RecoveredLog
from dwd.raft.proposals import ROUND_BYTES, ROUND_COUNT, Proposals
from dwd.raft.reads import ROUNDS_MAX, Reads
from dwd.raft.recovery import reconcile
from dwd.raft.rpc.lane import PeerLane
from dwd.rpc.wire_versions import WIRE
from dwd.runtime.clock import SystemClock
from dwd.runtime.serial import ThreadLanes
from dwd.runtime.tasks import Tasks
from tests.twins.dict_machine import DictDisk, DictMachine
from tests.twins.manual_clock import ManualClock
from tests.twins.memory_log import MemoryLogStore
from tests.twins.raft_cluster import GROUP, until


def write(term: int, *, payload_bytes: int = 0) -> LogWrite:
    hard_state = HardState(term=Term(term), vote=ReplicaId(0), commit=LogIndex(0))
    entries: tuple[Entry, ...] = ()
    if payload_bytes:
        entries = (entry(1, 1, bytes(payload_bytes)),)
    return LogWrite(group=GROUP, replica=ReplicaId(1), hard_state=hard_state, entries=entries)


def entry(index: int, term: int, payload: bytes = b"") -> Entry:
    return Entry(index=LogIndex(index), term=Term(term), kind=EntryKind.COMMAND, stamp=Stamp(1), payload=payload)


def failed(name: str, error: BaseException) -> None:
    raise AssertionError(name) from error


class _Picky(MemoryLogStore):
    """Refuses writes with the errors given, after having let later ones overtake."""

    def __init__(self) -> None:
        super().__init__()
        self.refusing: list[DwError] = []
        self.terms: list[int] = []

    async def write(self, writes: Sequence[LogWrite]) -> None:
        if self.refusing:
            error = self.refusing.pop()
            await until(lambda: bool(self.terms), "a later write")
            raise error
        await super().write(writes)
        self.terms += [write.hard_state.term for write in writes if write.hard_state is not None]


async def drained(persister: Persister, done: Callable[[], bool]) -> bool:
    """Turn as the host's loop does until `done`."""
    limit = SystemClock().monotonic() + 5
    while not done() and SystemClock().monotonic() < limit:
        persister.flush()
        await asyncio.sleep(0.005)
    return done()


class TestPersister:
    async def test_callbacks_run_in_order_when_writes_and_bare_callbacks_mix(self) -> None:
        async with Tasks("test", failed) as tasks:
            log, done = MemoryLogStore(), list[int]()
            persister = Persister(log, SystemClock(), tasks, in_flight_max=2, stir=lambda _: None)
            for turn in range(9):
                persister.queue(write(turn) if turn % 3 else None, partial(done.append, turn))
                persister.flush()
            await until(lambda: len(done) == 9, "all to be durable")
            assert done == sorted(done)

    async def test_what_waits_becomes_one_write_when_the_log_is_slow(self) -> None:
        async with Tasks("test", failed) as tasks:
            log, done = MemoryLogStore(), list[int]()
            persister = Persister(log, SystemClock(), tasks, in_flight_max=2, stir=lambda _: None)
            log.open_gate.clear()
            for turn in range(50):
                persister.queue(write(turn), partial(done.append, turn))
                persister.flush()
            log.open_gate.set()
            await until(lambda: len(done) == 50, "all to be durable")
            assert log.writes == 3
            assert log.durable[GROUP].hard_state.term == 49

    async def test_nothing_is_reported_durable_when_it_is_not(self) -> None:
        async with Tasks("test", failed) as tasks:
            log, done = MemoryLogStore(), list[int]()
            persister = Persister(log, SystemClock(), tasks, in_flight_max=2, stir=lambda _: None)
            log.open_gate.clear()
            persister.queue(write(1), partial(done.append, 1))
            persister.flush()
            persister.queue(None, partial(done.append, 2))
            persister.flush()
            for _ in range(10):
                await asyncio.sleep(0)
            assert done == []
            log.open_gate.set()
            await until(lambda: done == [1, 2], "both to be durable")

    async def test_a_group_is_stirred_when_there_is_room_again(self) -> None:
        async with Tasks("test", failed) as tasks:
            log, stirred = MemoryLogStore(), list[GroupId]()
            persister = Persister(log, SystemClock(), tasks, in_flight_max=1, stir=stirred.append)
            assert persister.admits(GROUP)
            persister.queue(write(1), lambda: None)
            persister.flush()
            assert not persister.admits(GROUP)
            await until(lambda: stirred == [GROUP], "the group to be stirred")

    async def test_refused_writes_come_again_in_their_old_order_when_there_is_space(self) -> None:
        """Two are out when the first is refused; the one that got through must not be the last word."""
        async with Tasks("test", failed) as tasks:
            log, done = _Picky(), list[int]()
            persister = Persister(log, SystemClock(), tasks, in_flight_max=2, stir=lambda _: None)
            log.refusing = [Busy("test.busy", "one moment")]
            for turn in (1, 2, 3):
                persister.queue(write(turn), partial(done.append, turn))
                persister.flush()
            await until(lambda: log.terms == [2], "the second to overtake the first")
            assert done == []
            assert await drained(persister, lambda: done == [1, 2, 3])
            assert log.terms[0] == 2
            assert log.terms[1:] == [1, 2, 3]
            assert log.durable[GROUP].hard_state.term == 3

    async def test_what_is_forgotten_is_not_written_when_it_had_been_refused(self) -> None:
        async with Tasks("test", failed) as tasks:
            log, done = MemoryLogStore(), list[int]()
            persister = Persister(log, SystemClock(), tasks, in_flight_max=2, stir=lambda _: None)
            log.full = True
            persister.queue(write(1), partial(done.append, 1))
            persister.flush()
            await until(lambda: persister.refusal is not None, "the write to be refused")
            persister.forget(GROUP)
            log.full = False
            assert await drained(persister, lambda: done == [1])
            assert GROUP not in log.durable

    async def test_large_writes_stay_apart_when_they_would_exceed_the_bound(self) -> None:
        async with Tasks("test", failed) as tasks:
            log, done = MemoryLogStore(), list[int]()
            persister = Persister(log, SystemClock(), tasks, in_flight_max=9, stir=lambda _: None)
            for turn in range(4):
                persister.queue(write(turn, payload_bytes=WRITE_BYTES_MAX), partial(done.append, turn))
            persister.flush()
            assert not persister.admits(GROUP)
            await until(lambda: len(done) == 4, "all to be durable")
            assert log.writes == 4


class TestReads:
    def reads(self) -> Reads:
        return Reads(GROUP, limit=3, boot=7, round_seconds=1.0)

    def future(self) -> asyncio.Future[LogIndex]:
        return asyncio.get_running_loop().create_future()

    async def test_a_read_waits_for_the_next_round_when_enough_are_out(self) -> None:
        reads, rounds = self.reads(), []
        for _ in range(ROUNDS_MAX):
            reads.add(9.0, self.future())
            rounds.append(reads.begin_round(0.0))
        late = self.future()
        reads.add(9.0, late)
        assert None not in rounds
        assert reads.begin_round(0.5) is None
        assert reads.begin_round(1.5) is not None

    async def test_a_read_is_answered_when_its_index_is_applied(self) -> None:
        reads, answer = self.reads(), self.future()
        reads.add(9.0, answer)
        read = reads.begin_round(0.0)
        assert read is not None
        reads.ready([ReadReady(read=read, index=LogIndex(5))], LogIndex(4))
        reads.applied(LogIndex(4))
        assert not answer.done()
        reads.applied(LogIndex(6))
        assert answer.result() == 6
        assert len(reads) == 0

    async def test_busy_when_too_many_wait_and_room_again_when_they_are_overdue(self) -> None:
        reads, answers = self.reads(), [self.future() for _ in range(3)]
        for answer in answers:
            reads.add(1.0, answer)
        with pytest.raises(Busy):
            reads.add(1.0, self.future())
        reads.overdue(1.0)
        assert all(isinstance(answer.exception(), Unavailable) for answer in answers)
        reads.add(2.0, self.future())


class TestProposals:
    async def test_nothing_was_changed_when_another_leaders_entry_took_the_place(self) -> None:
        proposals = Proposals(GROUP, 9)
        future = asyncio.get_running_loop().create_future()
        proposals.add(b"a", 9.0, future)
        (proposal,) = proposals.hand_over(9)
        proposals.accepted([Accepted(proposal=proposal.id, index=LogIndex(5), term=Term(2))])
        proposals.applied([entry(5, 3)], ["another's"])
        assert type(future.exception()) is Unavailable

    async def test_the_outcome_is_unknown_when_it_is_closed_after_acceptance(self) -> None:
        proposals = Proposals(GROUP, 9)
        accepted, waiting = (asyncio.get_running_loop().create_future() for _ in range(2))
        proposals.add(b"a", 9.0, accepted)
        (proposal,) = proposals.hand_over(9)
        proposals.accepted([Accepted(proposal=proposal.id, index=LogIndex(5), term=Term(2))])
        proposals.add(b"b", 9.0, waiting)
        proposals.close(Unavailable("test.closed", "closed"))
        assert isinstance(accepted.exception(), OutcomeUnknown)
        assert isinstance(waiting.exception(), Unavailable)
        assert len(proposals) == 0

    async def test_the_outcome_is_unknown_when_it_is_closed_before_the_cores_answer_was_seen(self) -> None:
        proposals, handed = Proposals(GROUP, 9), asyncio.get_running_loop().create_future()
        proposals.add(b"a", 9.0, handed)
        proposals.hand_over(9)
        proposals.close(Unavailable("test.closed", "closed"))
        assert isinstance(handed.exception(), OutcomeUnknown)

    async def test_proposals_gather_for_the_next_round_when_one_is_not_committed(self) -> None:
        proposals = Proposals(GROUP, 99)
        self.begin_round(proposals, LogIndex(5))
        proposals.add(b"b", 9.0, asyncio.get_running_loop().create_future())
        assert not proposals.round_due()
        proposals.committed(LogIndex(4))
        assert not proposals.round_due()
        proposals.committed(LogIndex(5))
        assert proposals.round_due()

    @pytest.mark.parametrize("wishes", [[b"b"] * ROUND_COUNT, [bytes(ROUND_BYTES)]], ids=["many", "large"])
    async def test_a_round_does_not_wait_for_the_one_before_when_it_is_large_enough(self, wishes: list[bytes]) -> None:
        proposals = Proposals(GROUP, 99)
        self.begin_round(proposals, LogIndex(5))
        for wish in wishes[1:]:
            proposals.add(wish, 9.0, asyncio.get_running_loop().create_future())
        assert not proposals.round_due()
        proposals.add(wishes[0], 9.0, asyncio.get_running_loop().create_future())
        assert proposals.round_due()
        proposals.hand_over(99)
        assert not proposals.round_due()

    async def test_a_new_round_may_begin_when_leadership_was_lost_during_one(self) -> None:
        proposals = Proposals(GROUP, 99)
        self.begin_round(proposals, LogIndex(5))
        proposals.lost_leadership()
        proposals.add(b"b", 9.0, asyncio.get_running_loop().create_future())
        assert proposals.round_due()

    def begin_round(self, proposals: Proposals, index: LogIndex) -> None:
        """One proposal, accepted at `index`."""
        proposals.add(b"a", 9.0, asyncio.get_running_loop().create_future())
        (proposal,) = proposals.hand_over(9)
        proposals.accepted([Accepted(proposal=proposal.id, index=index, term=Term(2))])


class TestPeerLane:
    async def test_news_of_a_commit_is_left_out_when_entries_follow(self) -> None:
        lane, sent = self.lane()
        lane.send(GROUP, [self.append(1, commit=1)])
        lane.send(GROUP, [self.append(1, entry(2, 1), commit=1)])
        lane._tell_news()
        assert [len(parcel.entries) for parcel in sent()] == [1]

    async def test_news_of_a_commit_is_told_when_nothing_follows(self) -> None:
        lane, sent = self.lane()
        lane.send(GROUP, [self.append(2, commit=1)])
        lane.send(GROUP, [self.append(2, commit=2)])
        assert sent() == []
        await until(lambda: lane.queued > 0, "the news is told")
        assert [parcel.commit for parcel in sent()] == [2]

    def lane(self) -> tuple[PeerLane, Callable[[], list[Append]]]:
        """A lane whose stream is not open, and what it would send."""
        encoder = SimpleNamespace(frame=lambda _, parcels: [parcel for _, parcel in parcels])
        made: Any = {"channels": None, "encoder": encoder, "versions": WIRE, "on_broken": failed}
        lane = PeerLane(NodeId(2), "appends", **made)
        return lane, lambda: list(lane._take_frame() or [])  # type: ignore[arg-type]

    def append(self, previous: int, *entries: Entry, commit: int) -> Append:
        return Append(
            source=ReplicaId(1), target=ReplicaId(2), term=Term(1), previous_index=LogIndex(previous),
            previous_term=Term(1), entries=entries, commit=LogIndex(commit),
        )  # fmt: skip


class TestReconcile:
    def log(self) -> RecoveredLog:
        """Entries 1 to 5 of term 2."""
        return RecoveredLog(
            group=GROUP,
            replica=ReplicaId(1),
            hard_state=HardState(term=Term(2), vote=ReplicaId(1), commit=LogIndex(2)),
            compacted=EMPTY_SNAPSHOT,
            entries=tuple(entry(index, 2) for index in range(1, 6)),
            doubt=Doubt.NONE,
        )

    def test_log_is_reset_when_power_went_between_an_install_and_the_reset(self) -> None:
        """Entries 3 to 5 were never committed: the installed state has another entry 3."""
        installed = replace(EMPTY_SNAPSHOT, index=LogIndex(3), term=Term(4))
        log, write = reconcile(self.log(), installed)
        assert write is not None
        assert write.reset == installed
        assert (log.compacted, log.entries) == (installed, ())
        assert (log.hard_state.term, log.hard_state.vote) == (4, 0)

    def test_replica_is_refused_when_its_machine_applied_what_the_log_replaced(self) -> None:
        with pytest.raises(Corrupt):
            reconcile(self.log(), replace(EMPTY_SNAPSHOT, index=LogIndex(3), term=Term(1)))


class TestApplier:
    async def test_what_a_snapshot_holds_is_not_applied_when_it_waited_for_the_install(self, tmp_path: Path) -> None:
        disk = DictDisk()
        machine, applied = DictMachine(disk), list[int]()
        snapshot = replace(EMPTY_SNAPSHOT, index=LogIndex(4), term=Term(1), stamp=Stamp(1))
        newer = DictDisk()
        newer.position = snapshot
        DictMachine(newer).copy_snapshot(tmp_path / "copy")
        lanes = ThreadLanes(threads=1, name="test")
        applier = Applier(
            GROUP, machine, lanes.lane("group"), open_machines=OpenMachines(1),
            applied=LogIndex(0), entries_max=1, bytes_max=MIB,
            clock=SystemClock(), on_applied=lambda entries, _: applied.append(entries[0].index),
            on_failed=lambda error: failed("apply", error),
        )  # fmt: skip
        machine.gate.clear()
        applier.add([entry(index, 1, b"a=1") for index in range(1, 6)])
        async with asyncio.TaskGroup() as group:
            installing = group.create_task(applier.install(tmp_path / "copy", snapshot))
            await asyncio.sleep(0)
            machine.gate.set()
        assert installing.done()
        await until(lambda: applier.applied == 5, "the rest to be applied")
        assert applied == [1, 5]
        applier.close()
        await applier.closed()
        await lanes.close()

    async def test_batches_gather_when_nobody_waits(self) -> None:
        clock, applied = ManualClock(), list[int]()
        async with _applying(clock, applied) as applier:
            applier.add([entry(1, 1, b"a=1")], soon=False)
            await until(lambda: applied == [1], "the first, after a quiet time, to be applied at once")
            applier.add([entry(2, 1, b"a=1")], soon=False)
            applier.add([entry(3, 1, b"a=1")], soon=False)
            for _ in range(10):
                await asyncio.sleep(0)
            assert applied == [1]
            await until(lambda: applied == [1, 3], "both in one batch, a little later")

    async def test_a_gathering_batch_is_applied_when_somebody_waits_for_it(self) -> None:
        clock, applied = ManualClock(), list[int]()
        async with _applying(clock, applied) as applier:
            applier.add([entry(1, 1, b"a=1")], soon=False)
            await until(lambda: applied == [1], "the first")
            with patch.object(Applier, "_gathered", side_effect=AssertionError("it was not to wait for its time")):
                applier.add([entry(2, 1, b"a=1")], soon=False)
                applier.hurry()
                await until(lambda: applied == [1, 2], "the second at once")
                applier.add([entry(index, 1, b"a=1") for index in range(3, 3 + GATHER_ENTRIES)], soon=False)
                await until(lambda: applied[-1] == 2 + GATHER_ENTRIES, "a full batch at once")


@asynccontextmanager
async def _applying(clock: ManualClock, applied: list[int]) -> AsyncIterator[Applier]:
    """An applier that notes the last index of each batch."""
    lanes = ThreadLanes(threads=1, name="test")
    applier = Applier(
        GROUP, DictMachine(DictDisk()), lanes.lane("group"), open_machines=OpenMachines(1),
        applied=LogIndex(0), entries_max=1000, bytes_max=MIB,
        clock=clock, on_applied=lambda entries, _: applied.append(entries[-1].index),
        on_failed=lambda error: failed("apply", error),
    )  # fmt: skip
    try:
        yield applier
    finally:
        applier.close()
        await applier.closed()
        await lanes.close()


def test_a_watcher_hears_only_news_when_it_watches() -> None:
    leadership, heard = Leadership(NodeId(1)), list[tuple[NodeId, Term, bool]]()
    unwatch = leadership.watch(lambda *news: heard.append(news))
    assert leadership.changed(NodeId(1), Term(2))
    assert not leadership.changed(NodeId(1), Term(2))
    unwatch()
    leadership.changed(NodeId(2), Term(3))
    assert heard == [(0, 0, False), (1, 2, True)]
