"""The first run of a first node: one-voter groups, then everything `dwd init` wrote down, proposed to them.

Every step may be repeated; the sealed file goes when all of it is committed.
"""

from __future__ import annotations

import asyncio

from dwd.base.clock import Clock, Rng
from dwd.base.errors import AlreadyExists
from dwd.base.ids import CONTROL_GROUP, ID_BITS, ReplicaId
from dwd.blocks.layouts import DEFAULT_PROFILE_SETTING
from dwd.meta.client import MetaClient
from dwd.meta.core.control.commands import AddNode, CreateAccessKey, CreateUser, InitialiseCluster, SetSetting
from dwd.meta.core.control.presplit import initial_shards
from dwd.meta.core.control.rows import Domain, NodeAddresses
from dwd.node.initialise import Bootstrap
from dwd.node.paths import Paths
from dwd.raft.core.types import Configuration, Member, MemberRole
from dwd.raft.host import Host
from dwd.security.identity import Identity

BOOTSTRAP_SECONDS = 30.0
FOUNDED_AT_ONCE = 8
"""Groups: each waits for a few syncs of the disk."""


async def found_groups(host: Host, identity: Identity, bootstrap: Bootstrap, rng: Rng) -> None:
    """Control and the shards, each with this node as its only voter. Idempotent."""
    groups = (CONTROL_GROUP, *(shard.group for shard in initial_shards(bootstrap.shards)))
    present = set(host.groups())
    missing = iter([group for group in groups if group not in present])

    async def found() -> None:
        for group in missing:
            await host.bootstrap(group, _alone(identity, rng))

    outcomes = await asyncio.gather(*(found() for _ in range(FOUNDED_AT_ONCE)), return_exceptions=True)
    for outcome in outcomes:
        if outcome is not None:
            raise outcome


def _alone(identity: Identity, rng: Rng) -> Configuration:
    replica = ReplicaId(rng.bits(ID_BITS) | 1)
    return Configuration(members=(Member(node=identity.node_id, replica=replica, role=MemberRole.VOTER),))


async def propose_cluster(
    meta: MetaClient,
    identity: Identity,
    bootstrap: Bootstrap,
    *,
    addresses: NodeAddresses,
    domain: Domain,
    clock: Clock,
    paths: Paths,
) -> None:
    """Commit what `dwd init` made. A user or key that an earlier, broken-off run made already is no error."""
    deadline = clock.monotonic() + BOOTSTRAP_SECONDS
    await meta.control(
        InitialiseCluster(
            cluster=identity.cluster_id,
            name=bootstrap.cluster_name,
            authority_certificate=bootstrap.authority_certificate,
            sealed_authority_key=bootstrap.sealed_authority_key,
            keyring_version=bootstrap.keyring_version,
            shards=initial_shards(bootstrap.shards),
        ),
        deadline=deadline,
    )
    await meta.control(
        AddNode(
            node=identity.node_id,
            name=identity.node_name,
            addresses=addresses,
            domain=domain,
            sealing_key=identity.sealing.public,
            sealed_keyring=bootstrap.sealed_keyring,
            keyring_version=bootstrap.keyring_version,
        ),
        deadline=deadline,
    )
    await meta.control(SetSetting(name=DEFAULT_PROFILE_SETTING, value=bootstrap.default_profile), deadline=deadline)
    for command in (
        CreateUser(name=bootstrap.user, admin=True),
        CreateAccessKey(access_key=bootstrap.access_key, user=bootstrap.user, sealed_secret=bootstrap.sealed_secret),
    ):
        try:
            await meta.control(command, deadline=deadline)
        except AlreadyExists:
            continue
    paths.bootstrap.unlink(missing_ok=True)
