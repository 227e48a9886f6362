"""The stream between nodes: real gRPC with real certificates, made-up groups behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from dwd.base.errors import (
    Conflict,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    NotLeader,
    OutcomeUnknown,
    Unavailable,
    VersionRefused,
)
from dwd.base.ids import ClusterId, GroupId, LogIndex, NodeId, ReplicaId, Stamp
from dwd.meta.audit import Audit
from dwd.meta.codec import decode_envelope, encode_envelope
from dwd.meta.core.apply import Envelope, SetVersion
from dwd.meta.core.control.commands import RemoveNode
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.shard.commands import DeleteObject, TrimTombstones
from dwd.meta.core.shard.queries import HeadObject, ObjectAnswer
from dwd.meta.core.versions import NEWEST
from dwd.meta.rpc.leaderships import GrpcLeaderships
from dwd.meta.rpc.peers import GrpcPeers
from dwd.meta.rpc.service import MetaService
from dwd.pb.meta.v1 import meta_pb2
from dwd.raft.core.types import Configuration, Member, MemberRole
from dwd.rpc.channels import Channels
from dwd.rpc.server import RpcServer
from dwd.runtime.clock import SystemClock
from dwd.security.authority import create_authority
from dwd.security.credentials import Credential, request_certificate
from dwd.security.peers import Peer

CLUSTER = ClusterId("c1" * 16)
CLOCK = SystemClock()
GROUP = GroupId(1)
SERVER, CLIENT = NodeId(1), NodeId(2)
SECONDS = 10.0


class Groups:
    """Answers as the payload says; `gate` holds back "wait"."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.waiting = 0
        self.proposed = 0

    async def propose(self, group: GroupId, payload: bytes, *, deadline: float) -> Any:
        self.proposed += 1
        word = decode_envelope(payload).command.key  # type: ignore[union-attr]
        match word:
            case "refused":
                return Conflict("test.refused", "the command was refused")
            case "not leader":
                raise NotLeader("raft.not_leader", "somebody else leads", leader_node=7)
            case "bug":
                raise ValueError("a bug")
            case "wait":
                self.waiting += 1
                await self.gate.wait()
        return Receipt(index=LogIndex(len(word)), stamp=Stamp(2), existed=True)

    async def answer(self, group: GroupId, query: Any, *, deadline: float) -> Any:
        return ObjectAnswer(object=None, inline=query.key.encode())


def said(word: str, **changed: Any) -> bytes:
    """A proposal that `Groups` reads a word from."""
    command = changed.pop("command", DeleteObject(bucket="b", key=word, bucket_epoch=1))
    fields: dict[str, Any] = {"session": 1, "sequence": 1, "lowest": 1, "version": NEWEST, "command": command}
    return encode_envelope(Envelope(**(fields | changed)))


class Everyone:
    def __init__(self) -> None:
        self.addresses: dict[int, str] = {}

    def check(self, peer: Peer, method: str) -> None:
        """All may call."""

    def address(self, node_id: NodeId) -> str:
        if node_id not in self.addresses:
            raise NotFound("node.unknown", "no such node")
        return self.addresses[node_id]


@asynccontextmanager
async def connected(leading: Any = None) -> AsyncIterator[tuple[GrpcPeers, Groups, RpcServer]]:
    authority = create_authority(CLUSTER, clock=CLOCK)
    everyone, groups = Everyone(), Groups()
    server = RpcServer("127.0.0.1:0", credential(authority, SERVER), everyone, clock=CLOCK)
    service = MetaService(groups, leading, Audit(Everyone()), CLOCK)  # type: ignore[arg-type]
    server.add(service.register)
    everyone.addresses[SERVER] = f"127.0.0.1:{await server.start()}"
    channels = Channels(credential(authority, CLIENT), everyone)
    peers = GrpcPeers(channels, CLOCK)
    try:
        yield peers, groups, server
    finally:
        await peers.close()
        await channels.close()
        await server.stop(0)


def credential(authority: Any, node: NodeId) -> Credential:
    request = request_certificate()
    certificate = authority.sign_node(request.request, node, clock=CLOCK)
    return Credential(cluster_id=CLUSTER, key=request.key, certificate=certificate, authority=authority.certificate)


def soon(seconds: float = SECONDS) -> float:
    return CLOCK.monotonic() + seconds


async def test_many_requests_share_one_stream_and_keep_their_answers() -> None:
    async with connected() as (peers, _, _server):
        async with asyncio.TaskGroup() as group:
            proposals = [
                group.create_task(peers.propose(SERVER, GROUP, said("x" * n), deadline=soon())) for n in range(20, 120)
            ]
            answers = [
                group.create_task(peers.answer(SERVER, GROUP, HeadObject(bucket="b", key=f"k{n}"), deadline=soon()))
                for n in range(100)
            ]
        assert [p.result().index for p in proposals] == list(range(20, 120))
        assert [a.result().inline for a in answers] == [f"k{n}".encode() for n in range(100)]


async def test_errors_cross_as_themselves() -> None:
    async with connected() as (peers, _, _server):
        outcome = await peers.propose(SERVER, GROUP, said("refused"), deadline=soon())
        assert isinstance(outcome, Conflict)
        with pytest.raises(NotLeader) as refused:
            await peers.propose(SERVER, GROUP, said("not leader"), deadline=soon())
        assert refused.value.leader_node == 7
        with pytest.raises(OutcomeUnknown, match="ValueError"):
            await peers.propose(SERVER, GROUP, said("bug"), deadline=soon())
        with pytest.raises(Unavailable, match="where that node is"):
            await peers.propose(NodeId(77), GROUP, said("x"), deadline=soon())


async def test_outcome_is_unknown_when_time_runs_out_after_sending() -> None:
    async with connected() as (peers, groups, _):
        await peers.propose(SERVER, GROUP, said("warm"), deadline=soon())
        with pytest.raises(OutcomeUnknown):
            await peers.propose(SERVER, GROUP, said("wait"), deadline=soon(0.5))
        groups.gate.set()
        with pytest.raises(DeadlineExceeded):
            await peers.propose(SERVER, GROUP, said("late"), deadline=soon(-1))


async def test_waiting_proposal_is_given_up_when_the_leader_changes() -> None:
    async with connected() as (peers, groups, _), asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(expect(OutcomeUnknown, peers.propose(SERVER, GROUP, said("wait"), deadline=soon())))
        while not groups.waiting:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        peers.leader_changed(GROUP, SERVER)
        await asyncio.sleep(0)
        assert not waiting.done(), "the new leader is the one that was asked"
        peers.leader_changed(GROUP, NodeId(3))
        await waiting


async def test_stream_is_opened_anew_when_it_broke() -> None:
    async with connected() as (peers, groups, server):
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(
                expect(OutcomeUnknown, peers.propose(SERVER, GROUP, said("wait"), deadline=soon()))
            )
            while not groups.waiting:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            server.close_all(Unavailable("test.closed", "closed by the test"))
            await waiting
        assert (await peers.propose(SERVER, GROUP, said("again"), deadline=soon())).index == 5


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"no protobuf \xff",
        said("x")[:-1],
        said("x", session=0),
        said("x", session=1 << 63),
        said("x", sequence=1, lowest=2),
        said("x", command=RemoveNode(node=NodeId(1))),
        said("x", command=TrimTombstones(before=Stamp((1 << 64) - 1), limit=1)),
        meta_pb2.Envelope(
            session=1, version=NEWEST, set_user_state={"name": "u", "standing": 77}  # type: ignore[arg-type]
        ).SerializeToString(),
    ],
    ids=["empty", "noise", "cut off", "no session", "session too large", "lowest above", "wrong group", "id too large",
         "unknown state"],
)  # fmt: skip
async def test_proposal_is_refused_before_it_reaches_the_log_when_it_is_no_command_of_the_group(payload: bytes) -> None:
    async with connected() as (peers, groups, _):
        with pytest.raises((InvalidArgument, VersionRefused)):
            await peers.propose(SERVER, GROUP, payload, deadline=soon())
        assert not groups.proposed
        assert (await peers.propose(SERVER, GROUP, said("fine"), deadline=soon())).index == 4


async def test_proposal_is_refused_when_its_version_is_not_known() -> None:
    async with connected() as (peers, groups, _):
        with pytest.raises(VersionRefused):
            await peers.propose(SERVER, GROUP, said("x", version=NEWEST + 1), deadline=soon())
        with pytest.raises(VersionRefused):
            await peers.propose(SERVER, GROUP, said("x", command=SetVersion(version=NEWEST + 1)), deadline=soon())
        assert not groups.proposed


async def expect(kind: type[Exception], work: Any) -> None:
    with pytest.raises(kind):
        await work


async def test_nothing_is_left_pending_when_a_stream_breaks() -> None:
    """A request iterator handed to gRPC stayed behind as a task that nobody ended, and asyncio complained of it."""
    async with connected() as (peers, groups, server):
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(
                expect(OutcomeUnknown, peers.propose(SERVER, GROUP, said("wait"), deadline=soon()))
            )
            while not groups.waiting:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            server.close_all(Unavailable("test.closed", "closed by the test"))
            await waiting
        assert not [t for t in asyncio.all_tasks() if "_consume_request_iterator" in repr(t.get_coro())]


async def test_a_node_is_left_when_it_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits is told within the time of silence; who comes then is not sent after them, but one is."""
    monkeypatch.setattr("dwd.meta.rpc.silence.SILENT_SECONDS", 0.2)
    async with connected() as (peers, groups, _):
        with pytest.raises(OutcomeUnknown):
            await peers.propose(SERVER, GROUP, said("wait"), deadline=CLOCK.monotonic() + SECONDS)
        async with asyncio.TaskGroup() as tasks:
            trying = tasks.create_task(peers.propose(SERVER, GROUP, said("wait"), deadline=CLOCK.monotonic() + SECONDS))
            await asyncio.sleep(0)
            with pytest.raises(Unavailable) as refused:
                await peers.propose(SERVER, GROUP, said("x"), deadline=CLOCK.monotonic() + SECONDS)
            assert refused.value.code == "meta.peer_silent"
            other = await peers.propose(SERVER, GroupId(2), said("x"), deadline=CLOCK.monotonic() + SECONDS)
            assert isinstance(other, Receipt)
            groups.gate.set()
            _ = await trying
        assert isinstance(await peers.propose(SERVER, GROUP, said("x"), deadline=CLOCK.monotonic() + SECONDS), Receipt)


async def test_a_slow_node_is_not_silent_when_it_answers_somebody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dwd.meta.rpc.silence.SILENT_SECONDS", 0.5)
    async with connected() as (peers, groups, _):
        async with asyncio.TaskGroup() as tasks:
            slow = tasks.create_task(peers.propose(SERVER, GROUP, said("wait"), deadline=CLOCK.monotonic() + SECONDS))
            until = CLOCK.monotonic() + 1.0
            while CLOCK.monotonic() < until:
                _ = await peers.propose(SERVER, GROUP, said("x"), deadline=CLOCK.monotonic() + SECONDS)
            assert not slow.done()
            groups.gate.set()
        assert isinstance(slow.result(), Receipt)


class LeadsTwo:
    """Node SERVER leads groups 1 and 2; the voters of 2 are of another priority, or far behind, or witnesses."""

    def __init__(self) -> None:
        self.handed: list[tuple[GroupId, NodeId | None]] = []

    def groups(self) -> tuple[GroupId, ...]:
        return (GroupId(1), GroupId(2), GroupId(3))

    def leads(self, group: GroupId) -> bool:
        return group != 3

    def status(self, group: GroupId) -> Any:
        def member(node: int, **changes: Any) -> Any:
            facts: dict[str, Any] = {"role": MemberRole.VOTER, "priority": 1, **changes}
            found = Member(node=NodeId(node), replica=ReplicaId(node), role=facts["role"], priority=facts["priority"])
            return SimpleNamespace(
                member=found, state=changes.get("state", "replicate"), last_contact_seconds=changes.get("silent", 0.0)
            )

        others = [member(11), member(12)]
        if group == 2:
            others = [
                member(11, priority=2), member(12, role=MemberRole.WITNESS), member(13, state="probe"),
                member(14, silent=9.0), member(15, role=MemberRole.LEARNER),
            ]  # fmt: skip
        members = [member(int(SERVER)), *others]
        return SimpleNamespace(
            replica=ReplicaId(int(SERVER)), quarantined=None, members=members,
            configuration=Configuration(members=tuple(m.member for m in members)),
        )  # fmt: skip

    def clock(self) -> Any:
        return SimpleNamespace(off=False)

    def disk(self) -> Any:
        return SimpleNamespace(slow=True)

    async def transfer(self, group: GroupId, to: NodeId | None, *, deadline: float) -> NodeId:
        self.handed.append((group, to))
        return to or NodeId(0)


async def test_a_node_tells_what_it_leads_and_hands_over_when_asked() -> None:
    leading = LeadsTwo()
    async with connected(leading) as (peers, _, _server):
        leaderships = GrpcLeaderships(CLIENT, leading, peers._channels, CLOCK)
        told = await leaderships.tell(SERVER, seconds=SECONDS)
        assert told.reluctant
        assert [(led.group, led.fit) for led in told.groups] == [(1, (11, 12)), (2, ())]
        await leaderships.hand_over(SERVER, GroupId(1), NodeId(12), seconds=SECONDS)
    assert leading.handed == [(1, 12)]
