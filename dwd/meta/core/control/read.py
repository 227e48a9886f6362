"""Answers about control."""

from __future__ import annotations

from dwd.base.errors import VersionRefused
from dwd.base.ids import ClusterId, DeviceId, GroupId, LayoutEpoch, NodeId, ShardEpoch, Stamp
from dwd.base.policy import Criticality, Tier
from dwd.meta.core.control import job_queries, keys, queries, read_jobs
from dwd.meta.core.control.rows import (
    AccessKeyRow,
    AtRest,
    BucketRow,
    BucketState,
    ClusterRow,
    DeviceRow,
    DeviceState,
    Domain,
    Encryption,
    JoinTokenRow,
    LayoutRow,
    Liveness,
    NodeAddresses,
    NodeRow,
    NodeStanding,
    RemovedNodeRow,
    SettingRow,
    ShardMap,
    ShardRange,
    StagedLayoutRow,
    Standing,
    UserRow,
)
from dwd.meta.core.query import Query
from dwd.meta.core.tx import Reader, Row

PAGE_MAX = 1_000


def answer(reader: Reader, query: Query[object]) -> object:  # noqa: C901, PLR0911, PLR0912 - a table
    """Raises VersionRefused for what is no question to control."""
    match query:
        case queries.GetTopology():
            return topology(reader)
        case queries.GetBucket():
            return queries.BucketAnswer(bucket=bucket(reader, query.name))
        case queries.ListBuckets():
            return buckets(reader, query)
        case queries.ListNamedKeys():
            return queries.NamedKeysAnswer(keys=keys.named_keys(reader))
        case queries.ListBoxes():
            return keys.boxes(reader, query)
        case queries.GetUser():
            return queries.UserAnswer(user=user(reader, query.name))
        case queries.ListUsers():
            return users(reader, query)
        case queries.GetAccessKey():
            return access_key(reader, query.access_key)
        case queries.ListAccessKeys():
            return access_keys(reader, query.user)
        case queries.GetJoinToken():
            return join_token(reader, query.token)
        case job_queries.GetJob():
            return read_jobs.job(reader, query.job)
        case job_queries.ListJobs():
            return read_jobs.jobs(reader, query)
        case _:
            raise VersionRefused("meta.query_unknown", f"control does not know the question {type(query).__name__}")


def topology(reader: Reader) -> queries.Topology:
    epoch = reader.row("SELECT epoch FROM shard_map") or (0,)
    return queries.Topology(
        cluster=cluster(reader),
        nodes=tuple(_node(row) for row in reader.rows("SELECT * FROM nodes ORDER BY node")),
        devices=tuple(_device(row) for row in reader.rows("SELECT * FROM devices ORDER BY device")),
        layouts=tuple(
            LayoutRow(epoch=LayoutEpoch(e), layout=layout, applied=Stamp(applied), retired=bool(retired))
            for e, layout, applied, retired in reader.rows(
                "SELECT epoch, layout, applied, retired FROM layouts ORDER BY epoch"
            )
        ),
        shard_map=ShardMap(
            epoch=ShardEpoch(epoch[0]),
            ranges=tuple(
                ShardRange(start=start, group=GroupId(group))
                for start, group in reader.rows("SELECT start, group_id FROM shard_ranges ORDER BY start")
            ),
        ),
        settings=tuple(
            SettingRow(name=name, value=value, changed=Stamp(changed))
            for name, value, changed in reader.rows("SELECT name, value, changed FROM settings ORDER BY name")
        ),
        removed=tuple(
            RemovedNodeRow(node=NodeId(node), name=name, removed=Stamp(removed))
            for node, name, removed in reader.rows("SELECT node, name, removed FROM removed_nodes ORDER BY node")
        ),
        staged_layout=_staged_layout(reader),
    )


def _staged_layout(reader: Reader) -> StagedLayoutRow | None:
    row = reader.row("SELECT epoch, layout, staged FROM staged_layout")
    return None if row is None else StagedLayoutRow(epoch=LayoutEpoch(row[0]), layout=row[1], staged=Stamp(row[2]))


def cluster(reader: Reader) -> ClusterRow | None:
    row = reader.row(
        "SELECT cluster, name, authority_certificate, sealed_authority_key, keyring_version, created FROM cluster"
    )
    if row is None:
        return None
    return ClusterRow(
        cluster=ClusterId(row[0]),
        name=row[1],
        authority_certificate=row[2],
        sealed_authority_key=row[3],
        keyring_version=row[4],
        created=Stamp(row[5]),
    )


def _node(row: Row) -> NodeRow:
    return NodeRow(
        node=NodeId(row[0]),
        name=row[1],
        addresses=NodeAddresses(grpc=row[2], s3=row[3], admin=row[4]),
        domain=Domain(region=row[5], zone=row[6], rack=row[7]),
        sealing_key=row[8],
        sealed_keyring=row[9],
        liveness=Liveness(row[10]),
        liveness_since=Stamp(row[11]),
        joined=Stamp(row[12]),
        version_newest=row[13],
        standing=NodeStanding(row[14]),
        standing_since=Stamp(row[15]),
    )


def _device(row: Row) -> DeviceRow:
    state = DeviceState(row[4])
    return DeviceRow(
        device=DeviceId(row[0]),
        node=NodeId(row[1]),
        weight=row[2],
        capacity_bytes=row[3],
        state=DeviceState.DRAINING if row[9] and state is DeviceState.ACTIVE else state,
        state_since=Stamp(row[5]),
        reason=row[6],
        rack=row[7],
        zone=row[8],
        draining=bool(row[9]),
    )


_BUCKETS = (
    "SELECT name, owner, profile, state, epoch, created, compression, encryption, named_key, sealed_key,"
    " tier, criticality, allow_fallback FROM buckets"
)


def _bucket(row: Row) -> BucketRow:
    return BucketRow(
        name=row[0],
        owner=row[1],
        profile=row[2],
        state=BucketState(row[3]),
        epoch=row[4],
        created=Stamp(row[5]),
        at_rest=AtRest(compression=row[6], encryption=Encryption(row[7]), named_key=row[8]),
        sealed_key=row[9],
        tier=Tier(row[10]),
        criticality=Criticality(row[11]),
        allow_fallback=bool(row[12]),
    )


def bucket(reader: Reader, name: str) -> BucketRow | None:
    row = reader.row(_BUCKETS + " WHERE name = ?", (name,))
    return None if row is None else _bucket(row)


def deleting_buckets(reader: Reader) -> tuple[BucketRow, ...]:
    """Those whose deletion somebody began: few, however many buckets there are."""
    rows = reader.rows(
        _BUCKETS + " WHERE state = ? ORDER BY name",
        (BucketState.DELETING,),
    )
    return tuple(_bucket(row) for row in rows)


def buckets(reader: Reader, query: queries.ListBuckets) -> queries.BucketsAnswer:
    limit = max(1, min(query.limit, PAGE_MAX))
    rows = list(
        reader.rows(
            _BUCKETS + " WHERE name > ?1 AND (?2 = '' OR owner = ?2) ORDER BY name LIMIT ?3",
            (query.after, query.owner, limit + 1),
        )
    )
    return queries.BucketsAnswer(buckets=tuple(_bucket(row) for row in rows[:limit]), more=len(rows) > limit)


def _user(row: Row) -> UserRow:
    return UserRow(name=row[0], admin=bool(row[1]), standing=Standing(row[2]), created=Stamp(row[3]))


def user(reader: Reader, name: str) -> UserRow | None:
    row = reader.row("SELECT name, admin, standing, created FROM users WHERE name = ?", (name,))
    return None if row is None else _user(row)


def users(reader: Reader, query: queries.ListUsers) -> queries.UsersAnswer:
    limit = max(1, min(query.limit, PAGE_MAX))
    rows = list(
        reader.rows(
            "SELECT name, admin, standing, created FROM users WHERE name > ? ORDER BY name LIMIT ?",
            (query.after, limit + 1),
        )
    )
    return queries.UsersAnswer(users=tuple(_user(row) for row in rows[:limit]), more=len(rows) > limit)


_KEY = "SELECT access_key, user, sealed_secret, standing, created FROM access_keys"


def _key(row: Row) -> AccessKeyRow:
    return AccessKeyRow(
        access_key=row[0], user=row[1], sealed_secret=row[2], standing=Standing(row[3]), created=Stamp(row[4])
    )


def access_key(reader: Reader, key: str) -> queries.AccessKeyAnswer:
    row = reader.row(_KEY + " WHERE access_key = ?", (key,))
    if row is None:
        return queries.AccessKeyAnswer(key=None, user=None)
    return queries.AccessKeyAnswer(key=_key(row), user=user(reader, row[1]))


def access_keys(reader: Reader, name: str) -> queries.AccessKeysAnswer:
    rows = reader.rows(_KEY + " WHERE user = ? ORDER BY created, access_key", (name,))
    return queries.AccessKeysAnswer(keys=tuple(_key(row) for row in rows))


def join_token(reader: Reader, token: str) -> queries.JoinTokenAnswer:
    row = reader.row("SELECT token, digest, expires_unix_ms, used_by FROM join_tokens WHERE token = ?", (token,))
    if row is None:
        return queries.JoinTokenAnswer(token=None)
    found = JoinTokenRow(
        token=row[0], digest=row[1], expires_unix_ms=row[2], used_by=None if row[3] is None else NodeId(row[3])
    )
    return queries.JoinTokenAnswer(token=found)
