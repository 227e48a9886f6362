"""One node of the core under a test's hands: its peers are what the test sends."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from dwd.base.clock import Clock
from dwd.base.ids import GroupId, LogIndex, NodeId, ReplicaId, Stamp, Term
from dwd.raft.core.effects import Effects
from dwd.raft.core.messages import Append, AppendReply, Heartbeat, HeartbeatReply, Message, VoteReply, VoteRequest
from dwd.raft.core.node import Node
from dwd.raft.core.options import NodeOptions
from dwd.raft.core.types import (
    EMPTY_SNAPSHOT,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Member,
    MemberRole,
    ProposalId,
    Role,
)
from tests.raft_harness.seeded import SeededRng

OPTIONS = NodeOptions(election_ticks_min=10, election_ticks_max=20, heartbeat_ticks=2)
M = TypeVar("M", bound=Message)


def members(
    voters: int, *, learners: int = 0, witnesses: int = 0, priorities: dict[int, int] | None = None
) -> Configuration:
    roles = [MemberRole.VOTER] * voters + [MemberRole.WITNESS] * witnesses + [MemberRole.LEARNER] * learners
    return Configuration(
        members=tuple(
            Member(node=NodeId(i), replica=ReplicaId(i), role=role, priority=(priorities or {}).get(i, 1))
            for i, role in enumerate(roles, 1)
        )
    )


def entry(index: int, term: int, payload: bytes = b"") -> Entry:
    return Entry(index=LogIndex(index), term=Term(term), kind=EntryKind.COMMAND, stamp=Stamp(index), payload=payload)


class Single:
    """Replica 1; `log` holds the terms of its entries."""

    def __init__(
        self, configuration: Configuration, *, term: int = 0, vote: int = 0, log: tuple[int, ...] = (),
        options: NodeOptions = OPTIONS, seed: int = 1, witness: bool = False, clock: Clock | None = None,
    ) -> None:  # fmt: skip
        self.sent: list[Message] = []
        self.effects: list[Effects] = []
        self.last_proposal = 0
        self.node = Node(
            group=GroupId(1), replica=ReplicaId(1), options=options, rng=SeededRng(seed),
            hard_state=HardState(term=Term(term), vote=ReplicaId(vote), commit=LogIndex(0)),
            snapshot=replace(EMPTY_SNAPSHOT, configuration=configuration),
            entries=[entry(place, of) for place, of in enumerate(log, 1)], applied=LogIndex(0),
            applied_configuration=configuration, tail_doubt=False, witness=witness, clock=clock,
        )  # fmt: skip

    @property
    def role(self) -> Role:
        return self.node.status().role

    def settle(self) -> None:
        """Take all effects, each durable at once."""
        while self.node.has_effects():
            taken = self.node.take_effects()
            self.effects.append(taken)
            self.sent += taken.messages_now
            self.node.persisted(taken.write)
            self.sent += taken.messages_durable
            if taken.committed:
                self.node.applied(taken.committed[-1].index)

    def take(self, kind: type[M]) -> list[M]:
        """Messages of a kind sent since the last look; the others are forgotten."""
        self.settle()
        found = [message for message in self.sent if isinstance(message, kind)]
        self.sent.clear()
        return found

    def step(self, message: Message) -> None:
        self.node.step(message)
        self.settle()

    def tick(self, count: int = 1) -> None:
        for _ in range(count):
            self.node.tick()
            self.settle()

    def propose(self, payload: bytes = b"x") -> None:
        self.last_proposal += 1
        self.node.propose([(ProposalId(self.last_proposal), payload)], unix_ms=1)
        self.settle()

    def campaign(self) -> None:
        """Tick until it is a candidate, with every pre-vote granted."""
        for _ in range(60):
            self.tick()
            for asked in [m for m in self.sent if isinstance(m, VoteRequest) and m.pre]:
                self.step(granted(asked))
            if self.role is Role.CANDIDATE:
                return
        raise AssertionError("it never stands")

    def lead(self) -> None:
        """Make it leader, its first entry committed by all others."""
        if self.role is Role.FOLLOWER:
            self.campaign()
        for asked in [m for m in self.sent if isinstance(m, VoteRequest) and not m.pre]:
            self.step(granted(asked))
        assert self.role is Role.LEADER
        self.acknowledge()

    def acknowledge(self, *sources: int) -> None:
        """Answer all Appends that were sent (to `sources`), each whole."""
        self.settle()
        for append in [m for m in self.sent if isinstance(m, Append)]:
            if not sources or append.target in sources:
                self.sent.remove(append)
                last = LogIndex(append.previous_index + len(append.entries))
                self.node.step(accepted(int(append.target), int(append.term), int(last)))
        self.settle()


def granted(request: VoteRequest, *, by: int | None = None) -> VoteReply:
    return VoteReply(
        source=request.target if by is None else ReplicaId(by), target=request.source, term=request.term,
        pre=request.pre, granted=True,
    )  # fmt: skip


def accepted(source: int, term: int, match: int) -> AppendReply:
    return AppendReply(
        source=ReplicaId(source), target=ReplicaId(1), term=Term(term), accepted=True, match=LogIndex(match),
        hint_index=LogIndex(0), hint_term=Term(0),
    )  # fmt: skip


def append(
    term: int, previous: tuple[int, int] = (0, 0), entries: tuple[Entry, ...] = (), *, commit: int = 0, source: int = 2
) -> Append:
    """`previous` is (index, term)."""
    return Append(
        source=ReplicaId(source), target=ReplicaId(1), term=Term(term), previous_index=LogIndex(previous[0]),
        previous_term=Term(previous[1]), entries=entries, commit=LogIndex(commit),
    )  # fmt: skip


def heartbeat(term: int, *, commit: int = 0, of_round: int = 1, source: int = 2) -> Heartbeat:
    return Heartbeat(
        source=ReplicaId(source), target=ReplicaId(1), term=Term(term), commit=LogIndex(commit), round=of_round
    )  # fmt: skip


def alive(source: int, term: int, *, of_round: int = 1, lease: bool = False, reluctant: bool = False) -> HeartbeatReply:
    return HeartbeatReply(
        source=ReplicaId(source), target=ReplicaId(1), term=Term(term), round=of_round, lease=lease, reluctant=reluctant
    )  # fmt: skip


def vote_request(term: int, *, last: tuple[int, int] = (0, 0), source: int = 2, transfer: bool = False) -> VoteRequest:
    """`last` is (index, term)."""
    return VoteRequest(
        source=ReplicaId(source), target=ReplicaId(1), term=Term(term), pre=False, last_index=LogIndex(last[0]),
        last_term=Term(last[1]), transfer=transfer,
    )  # fmt: skip
