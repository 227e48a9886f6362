"""Asking a running cluster to let this node in: the joiner's side of the Join call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dwd.admin.newcomer import Newcomer
from dwd.base.errors import DwError, NotFound, Unavailable
from dwd.base.ids import ClusterId, NodeId, hex_id, parse_hex_id
from dwd.pb.admin.v1 import admin_pb2 as pb
from dwd.pb.admin.v1 import admin_pb2_grpc
from dwd.rpc.calls import call
from dwd.rpc.channels import Channels
from dwd.security.tokens import JoinToken

JOIN_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Admitted:
    """What the cluster answered. `certificate` and `authority` are PEM, `nodes` the gRPC addresses of the members."""

    cluster: ClusterId
    certificate: bytes
    authority: bytes
    sealed_keyring: bytes = field(repr=False)
    nodes: Mapping[NodeId, str]


class _Nobody:
    """A directory without nodes: a joiner calls addresses."""

    def address(self, node_id: NodeId) -> str:
        raise NotFound("node.unknown", f"no address of node {hex_id(node_id)} is known here")


async def ask_to_join(token: JoinToken, newcomer: Newcomer) -> Admitted:
    """The first node that answers decides; one that cannot be reached is passed over.

    Raises AlreadyExists (the name is taken), PermissionDenied (token used or unknown), Unavailable (nobody answers).
    """
    request = _request(newcomer)
    channels = Channels(token.credential, _Nobody())
    failed: list[str] = []
    try:
        for address in token.addresses:
            stub = admin_pb2_grpc.AdminStub(channels.to_address(address))
            try:
                reply: pb.JoinReply = await call(stub.Join, request, seconds=JOIN_SECONDS, mutation=False)
            except DwError as error:
                if not error.retryable:
                    raise
                failed.append(f"{address}: {error.message}")
            else:
                return _admitted(reply)
    finally:
        await channels.close()
    raise Unavailable(
        "join.no_node_answers",
        "no node of the cluster let this one in:\n  " + "\n  ".join(failed),
        hint="see whether these addresses are reachable from here; repeating the join is safe",
    )


def _request(newcomer: Newcomer) -> pb.JoinRequest:
    return pb.JoinRequest(
        name=newcomer.name,
        node_id=hex_id(newcomer.node),
        certificate_request=newcomer.request,
        sealing_key=newcomer.sealing_key,
        grpc=newcomer.addresses.grpc,
        s3=newcomer.addresses.s3,
        admin=newcomer.addresses.admin,
        region=newcomer.domain.region,
        zone=newcomer.domain.zone,
        rack=newcomer.domain.rack,
    )


def _admitted(reply: pb.JoinReply) -> Admitted:
    return Admitted(
        cluster=ClusterId(reply.cluster_id),
        certificate=reply.certificate,
        authority=reply.authority,
        sealed_keyring=reply.sealed_keyring,
        nodes={NodeId(parse_hex_id(node.id)): node.grpc for node in reply.nodes},
    )
