"""Three hosts over real gRPC with mutual TLS on the loopback, and the conversion of every message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from dwd.base.errors import Corrupt, DwError
from dwd.base.ids import ClusterId, GroupId, LogIndex, NodeId, ReplicaId, Stamp, Term
from dwd.base.units import MIB
from dwd.raft.core import messages as m
from dwd.raft.core.types import Entry, EntryKind, ReadId, Role, SnapshotMeta
from dwd.raft.host import Host
from dwd.raft.options import HostOptions
from dwd.raft.ports import RecoveredLog
from dwd.raft.quorum_loss.epochs import Epochs
from dwd.raft.rpc import decode, encode
from dwd.raft.rpc.admin_client import create_replica, drop_replica
from dwd.raft.rpc.encode import Encoder
from dwd.raft.rpc.transport import GrpcTransport
from dwd.raft.transport import Absence, Absent, Parcel
from dwd.rpc.channels import Channels
from dwd.rpc.server import RpcServer
from dwd.runtime.clock import SystemClock, SystemRng
from dwd.runtime.os_files import OsFiles
from dwd.runtime.serial import ThreadLanes
from dwd.security.authority import Authority, create_authority
from dwd.security.credentials import Credential, request_certificate
from dwd.security.peers import Peer
from tests.twins.dict_machine import DictDisk, DictMachine
from tests.twins.memory_log import MemoryLogStore
from tests.twins.raft_cluster import GROUP, configuration, soon, until

CLUSTER = ClusterId("0123456789abcdef" * 2)
OPTIONS = HostOptions(compaction_entries=40, trailing_entries=5)


class Everyone:
    """Admits all peers of the cluster."""

    def check(self, peer: Peer, method: str) -> None:
        return None


class Addresses:
    """Where nodes are, known once they listen."""

    def __init__(self) -> None:
        self.known: dict[NodeId, str] = {}

    def address(self, node_id: NodeId) -> str:
        return self.known[node_id]


class WireNode:
    """A host behind a real server."""

    def __init__(
        self, number: int, directory: Path, addresses: Addresses, credential: Credential, options: HostOptions
    ) -> None:
        self.id = NodeId(number)
        self.durable: dict[GroupId, RecoveredLog] = {}
        self.disk = DictDisk()
        self.machine = DictMachine(self.disk, padding=3 * MIB)
        self._directory = directory
        self._addresses = addresses
        self._credential = credential
        self._options = options
        self.introduced: dict[NodeId, str] = {}
        self.epochs = Epochs(OsFiles(), directory / f"recovery-{number}.json", SystemClock())
        self.host: Host

    async def start(self) -> None:
        self.channels = Channels(self._credential, self._addresses)
        self.server = RpcServer("127.0.0.1:0", self._credential, Everyone(), clock=SystemClock())
        self.transport = GrpcTransport(
            node=self.id, channels=self.channels, epochs=self.epochs, introduce=self.introduced.update
        )
        self.transport.register(self.server)
        self._addresses.known[self.id] = f"127.0.0.1:{await self.server.start()}"
        self.lanes = ThreadLanes(threads=1, name="test")
        self.host = Host(
            node=self.id,
            log=MemoryLogStore(self.durable),
            transport=self.transport,
            machines=lambda _: self.machine,
            discard_machine=lambda _: None,
            snapshots=self._directory / f"{self.id}",
            lanes=self.lanes,
            clock=SystemClock(),
            rng=SystemRng(),
            options=self._options,
            on_fatal=lambda error: None,
        )
        await self.host.start()

    async def stop(self) -> None:
        await self.host.stop(hand_over=False)
        await self.lanes.close()
        await self.vanish()

    async def vanish(self) -> None:
        """All connections are gone, as when the process is."""
        await self.server.stop(0)
        await self.channels.close()


@asynccontextmanager
async def wired(
    directory: Path, count: int = 3, *, voters: int = 3, options: HostOptions = OPTIONS
) -> AsyncIterator[list[WireNode]]:
    authority = create_authority(CLUSTER, clock=SystemClock())
    addresses = Addresses()
    nodes = [WireNode(n, directory, addresses, credential_of(authority, n), options) for n in range(1, count + 1)]
    for node in nodes:
        await node.start()
    for node in nodes[:voters]:
        await node.host.bootstrap(GROUP, configuration(range(1, voters + 1)))
    try:
        yield nodes
    finally:
        for node in nodes:
            await node.stop()


def credential_of(authority: Authority, number: int) -> Credential:
    made = request_certificate()
    certificate = authority.sign_node(made.request, NodeId(number), clock=SystemClock())
    return Credential(cluster_id=CLUSTER, authority=authority.certificate, certificate=certificate, key=made.key)


async def leader_of(nodes: list[WireNode]) -> WireNode:
    def leading() -> list[WireNode]:
        return [node for node in nodes if GROUP in node.host.groups() and node.host.status(GROUP).role is Role.LEADER]

    await until(lambda: len(leading()) == 1, "a leader")
    return leading()[0]


async def put(nodes: list[WireNode], key: str) -> None:
    limit = soon()
    while True:
        try:
            await (await leader_of(nodes)).host.propose(GROUP, f"{key}=1".encode(), deadline=soon())
        except DwError as error:
            if not error.retryable or soon(0) > limit:
                raise
            await asyncio.sleep(0.01)
        else:
            return


async def test_commands_and_reads_work_when_nodes_speak_grpc(tmp_path: Path) -> None:
    async with wired(tmp_path) as nodes:
        await put(nodes, "a")
        for node in nodes:
            await node.host.read_index(GROUP, deadline=soon())
            assert node.disk.values["a"] == "1"


async def test_the_leader_is_given_up_before_its_silence_counts_when_its_streams_break(tmp_path: Path) -> None:
    patience = 2.0
    options = replace(OPTIONS, election_ticks=int(patience * 1000) // OPTIONS.tick_ms)
    async with wired(tmp_path, options=options) as nodes:
        await put(nodes, "a")
        leader = await leader_of(nodes)
        others = [node for node in nodes if node is not leader]
        await until(lambda: all(n.host.leader_node(GROUP) == leader.id for n in others), "all to know the leader")
        await leader.vanish()
        began = soon(0)
        await until(lambda: all(n.host.leader_node(GROUP) != leader.id for n in others), "all to give the leader up")
        assert soon(0) - began < 0.75 * patience
        next_leader = await leader_of(others)
        await put([next_leader], "b")
        await leader.host.stop()
        await leader.start()
        await until(lambda: leader.disk.values.get("b") == "1", "the old leader to come back and follow")


async def test_a_snapshot_travels_when_a_follower_comes_back_late(tmp_path: Path) -> None:
    async with wired(tmp_path) as nodes:
        await put(nodes, "first")
        leader = await leader_of(nodes)
        late = next(node for node in nodes if node is not leader)
        there = [node for node in nodes if node is not late]
        await late.stop()
        for turn in range(60):
            await put(there, f"k{turn}")
        await until(lambda: all(n.durable[GROUP].compacted.index > 20 for n in there), "the others to compact")
        lanes = [lane for node in there for lane in node.transport._lanes.get(late.id, ())]
        await until(lambda: not any(lane.queued for lane in lanes), "what was sent earlier to be dropped")
        await late.start()
        await until(lambda: late.disk.values.get("k59") == "1", "it to catch up")
        assert late.machine.installed == 1


async def test_a_replica_is_prepared_and_dropped_when_another_node_asks(tmp_path: Path) -> None:
    async with wired(tmp_path, 2, voters=1) as nodes:
        where = {NodeId(7): "127.0.0.1:7"}
        await create_replica(
            nodes[0].channels, nodes[0].epochs, lambda: where, nodes[1].id, GROUP, ReplicaId(200)
        )  # fmt: skip
        assert nodes[1].host.status(GROUP).replica == 200
        assert nodes[1].introduced == where
        await drop_replica(nodes[0].channels, nodes[0].epochs, nodes[1].id, GROUP, ReplicaId(199))
        assert nodes[1].host.status(GROUP).replica == 200
        await drop_replica(nodes[0].channels, nodes[0].epochs, nodes[1].id, GROUP, ReplicaId(200))
        assert nodes[1].host.groups() == ()


COMMON = {"source": ReplicaId(1 << 62), "target": ReplicaId(2), "term": Term(7)}
META = SnapshotMeta(index=LogIndex(9), term=Term(3), stamp=Stamp(1 << 60), configuration=configuration([1, 2, 3]))
JOINT = replace(META.configuration, outgoing=(ReplicaId(101), ReplicaId(102)), leaving=(ReplicaId(102),))
ENTRIES = tuple(
    Entry(index=LogIndex(4 + n), term=Term(3), kind=kind, stamp=Stamp(50 + n), payload=bytes([n]) * n)
    for n, kind in enumerate(EntryKind)
)
PARCELS: list[Parcel] = [
    m.VoteRequest(**COMMON, pre=True, last_index=LogIndex(5), last_term=Term(6)),
    m.VoteRequest(**COMMON, pre=False, last_index=LogIndex(5), last_term=Term(6), transfer=True),
    m.VoteReply(**COMMON, pre=False, granted=True, doubtful=True),
    m.VoteReply(**COMMON, pre=True, granted=False),
    m.Append(**COMMON, previous_index=LogIndex(3), previous_term=Term(2), entries=ENTRIES, commit=LogIndex(2)),
    m.Append(**COMMON, previous_index=LogIndex(0), previous_term=Term(0), entries=(), commit=LogIndex(0)),
    m.AppendReply(**COMMON, accepted=False, match=LogIndex(0), hint_index=LogIndex(4), hint_term=Term(2)),
    m.Heartbeat(**COMMON, commit=LogIndex(0), round=0),
    m.Heartbeat(**COMMON, commit=LogIndex(8), round=3, held=LogIndex(7)),
    m.HeartbeatReply(**COMMON, round=12),
    m.HeartbeatReply(**COMMON, round=12, reluctant=True, lease=True),
    m.ReadRequest(**COMMON, read=ReadId((1 << 62) + 5), doubtful=True),
    m.ReadReply(**COMMON, read=ReadId(5), index=LogIndex(8), refused=False),
    m.SnapshotOffer(**COMMON, snapshot=META),
    m.SnapshotOffer(**COMMON, snapshot=replace(META, configuration=JOINT)),
    m.TimeoutNow(**COMMON),
    Absent(source=ReplicaId(4), target=ReplicaId(5), reason=Absence.QUARANTINED),
]


@pytest.mark.parametrize("parcel", PARCELS, ids=lambda parcel: type(parcel).__name__)
def test_a_message_is_the_same_when_it_crossed_the_wire(parcel: Parcel) -> None:
    frame = Encoder(NodeId(1), lambda: 9).frame(NodeId(2), [(GroupId(5), parcel), (GroupId(6), parcel)])
    assert decode.frame(frame) == (1, 2, 9, {5: [parcel], 6: [parcel]})


def test_every_message_of_the_core_is_covered_when_the_wire_is_tested() -> None:
    assert {type(parcel) for parcel in PARCELS} == {*m.Message.__args__, Absent}


def test_a_run_of_entries_is_encoded_anew_when_its_last_term_differs() -> None:
    encoder = Encoder(NodeId(1), lambda: 9)
    append = next(parcel for parcel in PARCELS if isinstance(parcel, m.Append) and parcel.entries)
    other = replace(append, entries=tuple(replace(entry, term=Term(4), payload=b"other") for entry in ENTRIES))
    for sent in (append, other, append):
        _, _, _, parcels = decode.frame(encoder.frame(NodeId(2), [(GroupId(5), sent)]))
        assert parcels == {5: [sent]}


def test_a_frame_is_refused_when_its_bytes_make_no_sense() -> None:
    for garbage in (b"\xff\xff\xff", Encoder(NodeId(1), lambda: 9).frame(NodeId(2), [(GroupId(1), PARCELS[0])])[:-3]):
        with pytest.raises(Corrupt):
            decode.frame(garbage)


def test_a_snapshots_position_is_the_same_when_it_crossed_the_wire() -> None:
    assert decode.snapshot_meta(encode.snapshot_meta(META)) == META
