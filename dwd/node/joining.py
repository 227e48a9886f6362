"""`dwd join TOKEN`: become a node of a running cluster.

The node's id and keys are written down before the cluster is asked, so that a join that broke off at any point is
repeated as the same node. The identity itself is written last: with it the join is done.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from dwd.admin.joins import KEYRING_CONTEXT
from dwd.base.clock import Clock, Rng
from dwd.base.errors import AlreadyExists, Corrupt, DwError, NotFound, Unavailable
from dwd.base.ids import ID_BITS, ClusterId, NodeId, hex_id, parse_hex_id
from dwd.config.settings import Settings
from dwd.node.directory import save_peers
from dwd.node.initialise import write_private
from dwd.node.paths import Paths, paths_of
from dwd.pb.admin.v1 import admin_pb2 as pb
from dwd.pb.admin.v1 import admin_pb2_grpc
from dwd.rpc.calls import call
from dwd.rpc.channels import Channels
from dwd.runtime.os_files import OsFiles
from dwd.security import identity as identities
from dwd.security.credentials import Credential, request_certificate
from dwd.security.identity import Identity
from dwd.security.keyring import decode_keyring
from dwd.security.sealing import SealingKey, new_sealing_key, open_sealed, sealing_key
from dwd.security.tokens import JoinToken, decode_token

JOIN_SECONDS = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pending:
    """What a join under way must not forget."""

    node: NodeId
    request: bytes
    key: bytes = field(repr=False)
    sealing: SealingKey = field(repr=False)


class _Nobody:
    """A directory without nodes: a joiner calls addresses."""

    def address(self, node_id: NodeId) -> str:
        raise NotFound("node.unknown", f"no address of node {hex_id(node_id)} is known here")


async def join(settings: Settings, token_text: str, *, clock: Clock, rng: Rng) -> Identity:
    """Raises InvalidArgument (token), AlreadyExists (a node already, or the name is taken), PermissionDenied (token
    used or unknown), Unavailable (no node answers).
    """
    paths = paths_of(settings)
    if identities.exists(paths.identity):
        raise AlreadyExists(
            "node.already_initialised", f"{paths.identity} already holds a node's identity", hint="start it: `dwd run`"
        )
    token = decode_token(token_text, clock=clock)
    pending = _pending(paths, rng)
    reply = await _ask(settings, token, pending)
    if reply.cluster_id != token.cluster_id or reply.authority.strip() != token.credential.authority.strip():
        raise Corrupt("join.other_cluster", "the answer came from another cluster than the token's")
    decode_keyring(open_sealed(pending.sealing, reply.sealed_keyring, context=KEYRING_CONTEXT))
    credential = Credential(
        cluster_id=ClusterId(reply.cluster_id),
        authority=reply.authority,
        certificate=reply.certificate,
        key=pending.key,
    )
    write_private(paths.keyring, reply.sealed_keyring)
    save_peers(OsFiles(), paths, {NodeId(parse_hex_id(n.id)): n.grpc for n in reply.nodes})
    identity = Identity(
        node_id=pending.node, node_name=settings.node.name, credential=credential, sealing=pending.sealing
    )
    identities.create(paths.identity, identity)
    paths.joining.unlink(missing_ok=True)
    return identity


async def _ask(settings: Settings, token: JoinToken, pending: _Pending) -> pb.JoinReply:
    """The first node that answers decides; one that cannot be reached is passed over."""
    request = pb.JoinRequest(
        name=settings.node.name,
        node_id=hex_id(pending.node),
        certificate_request=pending.request,
        sealing_key=pending.sealing.public,
        grpc=str(settings.advertise),
        s3=str(settings.listen.s3),
        admin=str(settings.listen.admin),
        region=settings.node.region,
        zone=settings.node.zone,
        rack=settings.node.rack,
    )
    channels = Channels(token.credential, _Nobody())
    failed: list[str] = []
    try:
        for address in token.addresses:
            stub = admin_pb2_grpc.AdminStub(channels.to_address(address))
            try:
                return await call(stub.Join, request, seconds=JOIN_SECONDS, mutation=False)
            except DwError as error:
                if not error.retryable:
                    raise
                failed.append(f"{address}: {error.message}")
    finally:
        await channels.close()
    raise Unavailable(
        "join.no_node_answers",
        "no node of the cluster let this one in:\n  " + "\n  ".join(failed),
        hint="see whether these addresses are reachable from here; repeating the join is safe",
    )


def _pending(paths: Paths, rng: Rng) -> _Pending:
    """The join under way here, or the beginning of one."""
    if paths.joining.exists():
        try:
            document = json.loads(paths.joining.read_text())
            return _Pending(
                node=NodeId(parse_hex_id(document["node_id"])),
                request=document["request"].encode(),
                key=document["key"].encode(),
                sealing=sealing_key(bytes.fromhex(document["sealing"])),
            )
        except (ValueError, KeyError, TypeError, DwError) as error:
            raise Corrupt(
                "join.state_damaged", f"{paths.joining} cannot be read", hint="remove it and join with a new token"
            ) from error
    wanted, sealing = request_certificate(), new_sealing_key()
    pending = _Pending(node=NodeId(rng.bits(ID_BITS)), request=wanted.request, key=wanted.key, sealing=sealing)
    document = {
        "node_id": hex_id(pending.node),
        "request": pending.request.decode(),
        "key": pending.key.decode(),
        "sealing": sealing.private.hex(),
    }
    write_private(paths.joining, json.dumps(document).encode())
    return pending
