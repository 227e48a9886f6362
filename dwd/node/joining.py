"""`dwd join TOKEN`: become a node of a running cluster.

The node's id and keys are written down before the cluster is asked, so that a join that broke off at any point is
repeated as the same node. The identity itself is written last: with it the join is done.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from dwd.admin.newcomer import Newcomer
from dwd.admin.rpc.joining import ask_to_join
from dwd.base.clock import Clock, Rng
from dwd.base.errors import AlreadyExists, Corrupt, DwError
from dwd.base.ids import ID_BITS, NodeId, hex_id, parse_hex_id
from dwd.config.settings import Settings
from dwd.meta.core.control.rows import Domain, NodeAddresses
from dwd.node.directory import save_peers
from dwd.node.paths import Paths, paths_of
from dwd.runtime.os_files import OsFiles
from dwd.runtime.private_files import write_private
from dwd.security import identity as identities
from dwd.security.credentials import Credential, request_certificate
from dwd.security.identity import Identity
from dwd.security.keyring import open_keyring
from dwd.security.sealing import SealingKey, new_sealing_key, sealing_key
from dwd.security.tokens import decode_token


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pending:
    """What a join under way must not forget."""

    node: NodeId
    request: bytes
    key: bytes = field(repr=False)
    sealing: SealingKey = field(repr=False)


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
    newcomer = Newcomer(
        node=pending.node,
        name=settings.node.name,
        request=pending.request,
        sealing_key=pending.sealing.public,
        addresses=NodeAddresses(
            grpc=str(settings.advertise), s3=str(settings.listen.s3), admin=str(settings.listen.admin)
        ),
        domain=Domain(region=settings.node.region, zone=settings.node.zone, rack=settings.node.rack),
    )
    admitted = await ask_to_join(token, newcomer)
    if admitted.cluster != token.cluster_id or admitted.authority.strip() != token.credential.authority.strip():
        raise Corrupt("join.other_cluster", "the answer came from another cluster than the token's")
    open_keyring(pending.sealing, admitted.sealed_keyring)  # what cannot be opened here must not end the join
    credential = Credential(
        cluster_id=admitted.cluster,
        authority=admitted.authority,
        certificate=admitted.certificate,
        key=pending.key,
    )
    write_private(paths.keyring, admitted.sealed_keyring)
    save_peers(OsFiles(), paths, admitted.nodes)
    identity = Identity(
        node_id=pending.node, node_name=settings.node.name, credential=credential, sealing=pending.sealing
    )
    identities.create(paths.identity, identity)
    paths.joining.unlink(missing_ok=True)
    return identity


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
