"""Letting nodes in: tokens, and joins over real connections made with what a token holds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dwd.admin import joins
from dwd.admin.joins import TOKEN_MINUTES_DEFAULT, TOKEN_MINUTES_MAX
from dwd.admin.newcomer import Newcomer
from dwd.admin.rpc.joining import ask_to_join
from dwd.base.errors import AlreadyExists, InvalidArgument, PermissionDenied, Unavailable
from dwd.base.ids import NodeId
from dwd.meta.core.control.commands import AddNode, SetNodeLiveness
from dwd.meta.core.control.rows import Domain, Liveness, NodeAddresses
from dwd.pb.admin.v1 import admin_pb2 as pb
from dwd.pb.admin.v1 import admin_pb2_grpc
from dwd.rpc.calls import call
from dwd.rpc.channels import Channels
from dwd.security.authority import seal_authority_key
from dwd.security.credentials import request_certificate
from dwd.security.keyring import new_keyring, open_keyring
from dwd.security.peers import PeerKind, parse_identity
from dwd.security.sealing import SealingKey, new_sealing_key
from dwd.security.tokens import JoinToken, decode_token
from tests.twins.meta_group import CLUSTER
from tests.twins.meta_nodes import running, soon, until
from tests.unit.admin.conftest import CLOCK, CLOSED, AdminCluster, node_credential


@dataclass
class Machine:
    """One that wants to become a node."""

    number: int
    name: str = ""
    sealing: SealingKey = field(default_factory=new_sealing_key)

    @property
    def newcomer(self) -> Newcomer:
        return Newcomer(
            node=NodeId(self.number), name=self.name, request=request_certificate().request,
            sealing_key=self.sealing.public, domain=Domain(zone="z"),
            addresses=NodeAddresses(grpc=f"127.0.0.1:{self.number}", s3="", admin=""),
        )  # fmt: skip


@dataclass
class Cluster:
    """One node that lets others in. `context` is that of its admin service, at `address`."""

    context: Any
    address: str
    admins: AdminCluster

    async def token(self, minutes: int = 5) -> JoinToken:
        made = await joins.create_token(self.context, minutes=minutes)
        return decode_token(made.token, clock=CLOCK)

    async def add_node(self, number: int, grpc: str) -> None:
        await self.context.meta.control(
            AddNode(
                node=NodeId(number), name=f"n{number}", addresses=NodeAddresses(grpc=grpc, s3="", admin=""),
                domain=Domain(), sealing_key=b"", sealed_keyring=b"",
            ),
            deadline=soon(),
        )  # fmt: skip
        await until(lambda: any(row.addresses.grpc == grpc for row in self.rows))

    @property
    def rows(self) -> Any:
        return self.context.meta.view.topology().nodes


@pytest.fixture
async def cluster(tmp_path: Path, admins: AdminCluster) -> AsyncIterator[Cluster]:
    ring, authority = new_keyring(), admins.authority
    sealed = seal_authority_key(ring, authority)
    async with running(tmp_path, 1, authority_certificate=authority.certificate, sealed_authority_key=sealed) as nodes:
        context = SimpleNamespace(
            node=NodeId(1), cluster=CLUSTER, clock=CLOCK, meta=nodes[NodeId(1)].client, keyring=lambda: ring,
            deadline=soon,
        )  # fmt: skip
        address = await admins.serve(node_credential(authority, 1), context)
        made = Cluster(context, address, admins)
        await made.add_node(1, address)
        yield made


async def test_newcomer_becomes_a_node_with_certificate_keys_and_the_members(cluster: Cluster) -> None:
    machine = Machine(7, "seven")
    admitted = await ask_to_join(await cluster.token(), machine.newcomer)
    peer = parse_identity(admitted.certificate, CLUSTER)
    assert (admitted.cluster, peer.kind, peer.node_id) == (CLUSTER, PeerKind.NODE, 7)
    assert admitted.authority == cluster.admins.authority.certificate
    assert open_keyring(machine.sealing, admitted.sealed_keyring).encode() == cluster.context.keyring().encode()
    assert dict(admitted.nodes) == {NodeId(1): cluster.address}
    await until(lambda: len(cluster.rows) == 2)
    row = next(row for row in cluster.rows if row.node == 7)
    assert (row.name, row.addresses.grpc, row.domain.zone) == ("seven", "127.0.0.1:7", "z")


async def test_same_node_is_let_in_again_with_its_token_and_no_other_is(cluster: Cluster) -> None:
    token, machine = await cluster.token(), Machine(7, "seven")
    await ask_to_join(token, machine.newcomer)
    await ask_to_join(token, machine.newcomer)
    with pytest.raises(PermissionDenied) as caught:
        await ask_to_join(token, Machine(8, "eight").newcomer)
    assert caught.value.code == "meta.token_used"
    await until(lambda: len(cluster.rows) == 2)


async def test_newcomer_is_refused_when_its_name_or_its_id_is_anothers(cluster: Cluster) -> None:
    with pytest.raises(AlreadyExists):
        await ask_to_join(await cluster.token(), Machine(7, "n1").newcomer)
    with pytest.raises(PermissionDenied) as caught:
        await ask_to_join(await cluster.token(), Machine(1, "one").newcomer)
    assert caught.value.code == "meta.node_is_another"
    assert [row.name for row in cluster.rows] == ["n1"]


async def test_next_node_is_asked_when_the_first_does_not_answer(cluster: Cluster) -> None:
    token = await cluster.token()
    token = JoinToken(
        addresses=(CLOSED, cluster.address), expires_unix_ms=token.expires_unix_ms, credential=token.credential
    )
    assert (await ask_to_join(token, Machine(7).newcomer)).cluster == CLUSTER


async def test_newcomer_is_told_every_address_when_nobody_answers(cluster: Cluster) -> None:
    token = await cluster.token()
    token = JoinToken(addresses=(CLOSED,), expires_unix_ms=token.expires_unix_ms, credential=token.credential)
    with pytest.raises(Unavailable, match=CLOSED) as caught:
        await ask_to_join(token, Machine(7).newcomer)
    assert caught.value.code == "join.no_node_answers"


async def test_joining_is_refused_when_the_caller_brings_no_join_certificate(cluster: Cluster) -> None:
    authority = cluster.admins.authority
    for credential in (node_credential(authority, 1), authority.issue_operator("ann", clock=CLOCK)):
        channels = Channels(credential, cluster.admins.directory)
        stub = admin_pb2_grpc.AdminStub(channels.to_address(cluster.address))
        try:
            with pytest.raises(PermissionDenied) as caught:
                await call(stub.Join, pb.JoinRequest(), seconds=10, mutation=False)
        finally:
            await channels.close()
        assert caught.value.code == "token.needed"


@pytest.mark.parametrize("minutes", [0, 1, TOKEN_MINUTES_MAX])
async def test_token_lasts_the_minutes_asked_for(cluster: Cluster, minutes: int) -> None:
    before = CLOCK.unix_ms()
    made = await joins.create_token(cluster.context, minutes=minutes)
    lasting = (minutes or TOKEN_MINUTES_DEFAULT) * 60_000
    assert before + lasting <= made.expires_unix_ms <= CLOCK.unix_ms() + lasting
    assert abs(decode_token(made.token, clock=CLOCK).expires_unix_ms - made.expires_unix_ms) <= 2_000
    assert made.token not in repr(made)


@pytest.mark.parametrize("minutes", [-1, TOKEN_MINUTES_MAX + 1])
async def test_token_is_refused_when_its_minutes_are_out_of_bounds(cluster: Cluster, minutes: int) -> None:
    with pytest.raises(InvalidArgument):
        await joins.create_token(cluster.context, minutes=minutes)


async def test_token_names_this_node_first_and_none_that_is_down(cluster: Cluster) -> None:
    for number in (2, 3, 4):
        await cluster.add_node(number, f"h{number}:1")
    await cluster.context.meta.control(SetNodeLiveness(node=NodeId(3), liveness=Liveness.DOWN), deadline=soon())
    await until(lambda: any(row.liveness is Liveness.DOWN for row in cluster.rows))
    cluster.context.node = NodeId(4)
    assert (await cluster.token()).addresses == ("h4:1", cluster.address, "h2:1")


async def test_token_is_unavailable_when_this_node_does_not_know_its_cluster_yet(cluster: Cluster) -> None:
    empty = SimpleNamespace(topology=lambda: SimpleNamespace(cluster=None, nodes=()))
    cluster.context.meta = SimpleNamespace(view=empty)
    with pytest.raises(Unavailable) as caught:
        await joins.create_token(cluster.context, minutes=1)
    assert caught.value.code == "cluster.not_initialised"
