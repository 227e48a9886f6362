"""Letting nodes in: tokens for operators, certificates and keys for whoever brings one.

A token holds a certificate that may do one thing: ask to join. Who joins proves possession of its own key, gets a node
certificate from the authority (its key lies sealed in control) and the cluster keys sealed to its sealing key.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field

from dwd.admin.context import AdminContext
from dwd.admin.newcomer import Newcomer
from dwd.base.errors import InvalidArgument, Unavailable
from dwd.base.ids import hex_id
from dwd.meta.core.control.commands import AddNode, CreateJoinToken, UseJoinToken
from dwd.meta.core.control.queries import Topology
from dwd.meta.core.control.rows import Liveness, NodeAddresses
from dwd.security.authority import Authority, open_authority
from dwd.security.keyring import seal_keyring
from dwd.security.tokens import ADDRESSES_MAX, encode_token

TOKEN_MINUTES_MAX = 1_440
TOKEN_MINUTES_DEFAULT = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeToken:
    token: str = field(repr=False)
    token_id: str
    expires_unix_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """What it gets. `certificate` and `authority` are PEM."""

    certificate: bytes
    authority: bytes
    sealed_keyring: bytes = field(repr=False)
    topology: Topology


async def create_token(context: AdminContext, *, minutes: int) -> MadeToken:
    """Raises InvalidArgument."""
    minutes = minutes or TOKEN_MINUTES_DEFAULT
    if minutes > TOKEN_MINUTES_MAX:
        raise InvalidArgument("token.too_long", f"a join token lasts at most {TOKEN_MINUTES_MAX} minutes")
    topology = context.meta.view.topology()
    token_id = os.urandom(8).hex()
    credential = _authority(context, topology).issue_join(token_id, clock=context.clock, minutes=minutes)
    up = [row for row in topology.nodes if row.liveness is Liveness.UP]
    first = sorted(up, key=lambda row: row.node != context.node)
    token = encode_token(credential, tuple(row.addresses.grpc for row in first[:ADDRESSES_MAX]))
    expires = context.clock.unix_ms() + minutes * 60_000
    digest = hashlib.sha256(credential.certificate).digest()
    command = CreateJoinToken(token=token_id, digest=digest, expires_unix_ms=expires)
    await context.meta.control(command, deadline=context.deadline())
    return MadeToken(token=token, token_id=token_id, expires_unix_ms=expires)


async def join(context: AdminContext, token_id: str, newcomer: Newcomer) -> Welcome:
    """Admit a node; the same node may come again with the same token. Raises PermissionDenied, AlreadyExists."""
    topology = context.meta.view.topology()
    authority = _authority(context, topology)
    hosts = _hosts(newcomer.addresses)
    certificate = authority.sign_node(newcomer.request, newcomer.node, clock=context.clock, names=hosts)
    ring = context.keyring()
    sealed = seal_keyring(ring, newcomer.sealing_key)
    await context.meta.control(UseJoinToken(token=token_id, node=newcomer.node), deadline=context.deadline())
    await context.meta.control(
        AddNode(
            node=newcomer.node,
            name=newcomer.name or hex_id(newcomer.node),
            addresses=newcomer.addresses,
            domain=newcomer.domain,
            sealing_key=newcomer.sealing_key,
            sealed_keyring=sealed,
            keyring_version=ring.active_version,
        ),
        deadline=context.deadline(),
    )
    return Welcome(certificate=certificate, authority=authority.certificate, sealed_keyring=sealed, topology=topology)


def _authority(context: AdminContext, topology: Topology) -> Authority:
    cluster = topology.cluster
    if cluster is None:
        raise Unavailable("cluster.not_initialised", "this node does not know its cluster yet", hint="try again soon")
    return open_authority(
        context.keyring(),
        cluster.cluster,
        certificate=cluster.authority_certificate,
        sealed_key=cluster.sealed_authority_key,
    )


def _hosts(addresses: NodeAddresses) -> tuple[str, ...]:
    host = addresses.grpc.rpartition(":")[0].strip("[]")
    return (host,) if host else ()
