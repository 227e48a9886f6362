"""The cluster's keys are rotated once, whatever happens to the node that does it, and every key opens afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import pytest

from dwd.base.errors import Busy, Conflict, Corrupt, VersionRefused
from dwd.base.ids import CONTROL_GROUP, ClusterId, NodeId
from dwd.jobs.kinds import JobKind
from dwd.meta.core.control import keys, read
from dwd.meta.core.control.commands import CreateAccessKey, CreateBucket, CreateUser, InitialiseCluster
from dwd.meta.core.control.job_rows import JobRow
from dwd.meta.core.control.key_commands import CreateNamedKey, RetireKeys
from dwd.meta.core.control.presplit import initial_shards
from dwd.meta.core.control.queries import ListBoxes
from dwd.meta.core.control.rows import BoxKind
from dwd.node.keyring_job import RotateKind
from dwd.runtime.clock import SystemClock
from dwd.security import authority
from dwd.security.access_keys import PURPOSE, AccessKey, open_secret, seal_secret
from dwd.security.authority import create_authority, open_authority, seal_authority_key
from dwd.security.boxes import box_version
from dwd.security.data_keys import BUCKET_PURPOSE, NAMED_PURPOSE, OpenedKeys, WrappingKey, new_named_key
from dwd.security.keyring import Keyring, open_keyring, seal_keyring
from dwd.security.sealing import SealingKey, sealing_key
from tests.job_harness.harness import Scenario, survive
from tests.twins.job_cluster import JobCluster, JobNode

FIRST = {1: bytes(range(32))}
CLUSTER = ClusterId("ab" * 16)
ADMIN = NodeId(0)
BUCKETS, SECRET = 3, "s" * 40
AUTHORITY = create_authority(CLUSTER, clock=SystemClock())
WRAPPED = b"a data key of thirty-two bytes.."
_rings: WeakKeyDictionary[JobCluster, dict[NodeId, Keyring]] = WeakKeyDictionary()


class Asked:
    def __init__(self, cluster: JobCluster) -> None:
        self._cluster = cluster

    async def read(self, query: Any, *, deadline: float) -> Any:
        return read.answer(self._cluster.machines[CONTROL_GROUP].tx, query)


def pair(node: NodeId) -> SealingKey:
    return sealing_key(bytes([int(node)]) * 32)


def ring_of(node: JobNode) -> Keyring:
    """As KeyringKeeper keeps it, from what control has for the node."""
    rings = _rings.setdefault(node.cluster, {})
    if node.id not in rings:
        ring = rings[node.id] = Keyring(FIRST, active=1)

        def refresh() -> None:
            row = node.topology().node(node.id)
            assert row is not None
            found = open_keyring(pair(node.id), row.sealed_keyring)
            if found.active_version >= ring.active_version:
                ring.adopt(found)

        ring.when_missing(refresh)
    return rings[node.id]


def kinds(node: JobNode) -> Sequence[JobKind]:
    return (RotateKind(node=node.id, meta=Asked(node.cluster), ring=ring_of(node), clock=node.clock),)


def prepare(cluster: JobCluster) -> None:
    ring, tx = Keyring(FIRST, active=1), cluster.machines[CONTROL_GROUP].tx
    for node in cluster.nodes:
        public = pair(node).public
        tx.run(
            "UPDATE nodes SET sealing_key = ?, sealed_keyring = ? WHERE node = ?",
            (public, seal_keyring(ring, public), node),
        )
    buckets = OpenedKeys(ring, purpose=BUCKET_PURPOSE)
    for command in (
        InitialiseCluster(
            cluster=CLUSTER, name="c", authority_certificate=AUTHORITY.certificate,
            sealed_authority_key=seal_authority_key(ring, AUTHORITY), keyring_version=1, shards=initial_shards(1),
        ),
        CreateUser(name="u"),
        CreateAccessKey(access_key="A", user="u", sealed_secret=seal_secret(ring, AccessKey(id="A", secret=SECRET))),
        CreateNamedKey(name="payroll", sealed_key=new_named_key(ring, "payroll")),
        *(
            CreateBucket(name=f"b{n}", owner="u", profile="", sealed_key=buckets.seal(f"b{n}", bytes([n]) * 32))
            for n in range(BUCKETS)
        ),
    ):  # fmt: skip
        cluster.apply(ADMIN, CONTROL_GROUP, command, None)


def check(cluster: JobCluster, _row: JobRow) -> None:
    tx = cluster.machines[CONTROL_GROUP].tx
    present = keys.present_version(tx)
    assert present == 2
    topology = read.topology(tx)
    for node in cluster.nodes:
        row = topology.node(node)
        assert row is not None
        ring = open_keyring(pair(node), row.sealed_keyring)
        assert ring.versions == (2,)
        assert topology.cluster is not None
        opened = open_authority(
            ring, CLUSTER, certificate=AUTHORITY.certificate, sealed_key=topology.cluster.sealed_authority_key
        )
        assert opened.key == AUTHORITY.key
        secret = read.access_key(tx, "A").key
        assert secret is not None
        assert open_secret(ring.for_purpose(PURPOSE), "A", secret.sealed_secret) == SECRET
        buckets = OpenedKeys(ring, purpose=BUCKET_PURPOSE)
        for number in range(BUCKETS):
            bucket = read.bucket(tx, f"b{number}")
            assert bucket is not None
            box = WrappingKey(bytes([number]) * 32).wrap(WRAPPED, b"owner")
            assert buckets.open(bucket.name, bucket.sealed_key).unwrap(box, b"owner") == WRAPPED
        OpenedKeys(ring, purpose=NAMED_PURPOSE).open("payroll", keys.named_keys(tx)[0].sealed_key)
    for kind in BoxKind:
        assert {box_version(one.box) for one in keys.boxes(tx, ListBoxes(kind=kind)).boxes} == {2}


def test_keys_are_rotated_once_when_the_runner_dies_or_sleeps_at_any_moment() -> None:
    assert survive(Scenario(kinds=kinds, kind="keyring.rotate", prepare=prepare, check=check)) > 30


def rotated(cluster: JobCluster) -> Keyring:
    ring = Keyring(FIRST, active=1).rotated()
    from dwd.meta.core.control.key_commands import RotateKeyring  # noqa: PLC0415
    from dwd.meta.core.control.rows import SealedRing  # noqa: PLC0415

    rings = tuple(SealedRing(node=node, box=seal_keyring(ring, pair(node).public)) for node in cluster.nodes)
    cluster.apply(ADMIN, CONTROL_GROUP, RotateKeyring(version=2, rings=rings), None)
    return ring


def run(scenario: Any) -> None:
    from tests.twins.virtual_time import run_mortally  # noqa: PLC0415

    async def go() -> None:
        cluster = JobCluster(kinds)
        prepare(cluster)
        await scenario(cluster)

    run_mortally(go())


def test_old_boxes_are_refused_and_old_keys_stay_when_something_names_them() -> None:
    async def scenario(cluster: JobCluster) -> None:
        new = rotated(cluster)
        with pytest.raises(Busy) as caught:
            cluster.apply(
                ADMIN,
                CONTROL_GROUP,
                CreateNamedKey(name="late", sealed_key=new_named_key(Keyring(FIRST, active=1), "late")),
                None,
            )
        assert caught.value.code == "meta.keyring_stale"
        cluster.apply(ADMIN, CONTROL_GROUP, CreateNamedKey(name="x", sealed_key=new_named_key(new, "x")), None)
        with pytest.raises(Conflict) as refused:
            cluster.apply(ADMIN, CONTROL_GROUP, RetireKeys(version=2, rings=()), None)
        assert refused.value.code == "meta.keyring_in_use"

    run(scenario)


def test_views_follow_and_old_boxes_open_until_the_old_key_is_retired() -> None:
    ring = Keyring(FIRST, active=1)
    view = ring.for_purpose("x")
    old = view.seal(b"plain", context=b"c")
    newer = ring.rotated()
    ring.adopt(newer)
    assert box_version(view.seal(b"y", context=b"c")) == 2
    assert view.open(old, context=b"c") == b"plain"
    fresh = Keyring(FIRST, active=1).for_purpose("x")
    with pytest.raises(VersionRefused):
        fresh.open(view.seal(b"z", context=b"c"), context=b"c")
    fresh.when_missing(lambda: fresh.adopt(newer))
    assert fresh.open(view.seal(b"z", context=b"c"), context=b"c") == b"z"
    alone = newer.retired().for_purpose("x")
    with pytest.raises(VersionRefused):
        alone.open(old, context=b"c")
    with pytest.raises(Corrupt):
        view.open(old, context=b"d")
    assert authority.PURPOSE not in {PURPOSE, BUCKET_PURPOSE, NAMED_PURPOSE}
