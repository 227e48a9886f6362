"""What operators are told of profiles, on a cluster of three nodes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dwd.admin import profiles
from dwd.admin.rpc.profiles import ProfilesServicer
from dwd.base.errors import InvalidArgument, NotFound, Unavailable
from dwd.base.ids import DeviceId, NodeId, Stamp
from dwd.base.policy import Policy, Tier
from dwd.blocks.topology import DeviceHealth, DeviceView
from dwd.meta.core.control.commands import SetSetting
from dwd.meta.core.control.rows import BucketRow, BucketState
from dwd.pb.admin.v1 import profiles_pb2 as pb
from tests.twins.memory_blocks import MemoryTopology, NodeTopology


class Cluster:
    """An admin context: buckets, settings and three devices, or no layout at all."""

    def __init__(self, *buckets: BucketRow, devices: int = 3) -> None:
        shared = MemoryTopology()
        for number in range(1, devices + 1):
            shared.views[DeviceId(number)] = DeviceView(
                device=DeviceId(number), node=NodeId(number), zone="", rack="", weight=1, health=DeviceHealth.UP
            )
        if devices:
            shared.relayout()
        self.topology = NodeTopology(shared, NodeId(1))
        self.settings: dict[str, str] = {}
        self.buckets = {row.name: row for row in buckets}
        self.meta = self
        setting = SimpleNamespace(setting=lambda name: self.settings.get(name, ""))
        self.view = SimpleNamespace(topology=lambda: setting)

    def deadline(self) -> float:
        return 0.0

    async def read(self, query: Any, *, deadline: float) -> Any:
        return SimpleNamespace(bucket=self.buckets.get(query.name))

    async def control(self, command: SetSetting, *, deadline: float) -> None:
        self.settings[command.name] = command.value


def bucket(name: str, policy: Policy) -> BucketRow:
    return BucketRow(
        name=name, owner="u", profile=policy.profile, state=BucketState.ACTIVE, epoch=1, created=Stamp(0),
        tier=policy.tier, criticality=policy.criticality, allow_fallback=policy.allow_fallback,
    )  # fmt: skip


def service(cluster: Cluster) -> Any:
    return ProfilesServicer(cluster)  # type: ignore[arg-type]


async def test_profiles_are_listed_with_what_is_missing_for_them() -> None:
    listed = await service(Cluster()).ListProfiles(pb.ListProfilesRequest(), None)
    by_name = {view.name: view for view in listed.profiles}
    assert by_name["replica-3"].missing == ""
    assert by_name["standard"].scheme == "rs-6-3"
    assert by_name["standard"].missing == "needs 9 devices, the cluster has 3"
    assert (listed.cluster, listed.tier, listed.default_profile) == ("3 devices on 3 nodes", "smb", "auto")


async def test_a_bucket_is_explained_by_its_own_policy_also_when_named_like_a_profile() -> None:
    own = bucket("standard", Policy(profile="rs-4-2", allow_fallback=True))
    asked = service(Cluster(own))
    told = await asked.ExplainProfile(pb.ExplainProfileRequest(what="standard", is_bucket=True), None)
    assert (told.bucket, told.profile, told.meanwhile) == ("standard", "rs-4-2", "replica-3")
    assert (told.stored_as.missing, told.survives_nodes) == ("needs 6 devices, the cluster has 3", 2)
    assert (await asked.ExplainProfile(pb.ExplainProfileRequest(what="standard"), None)).stored_as.scheme == "rs-6-3"
    with pytest.raises(NotFound):
        await asked.ExplainProfile(pb.ExplainProfileRequest(what="nothing"), None)


async def test_auto_is_explained_for_a_cluster_that_is_imagined() -> None:
    asked = service(Cluster())
    told = await asked.ExplainProfile(
        pb.ExplainProfileRequest(tier="high-stakes", criticality="high", nodes=12, zones=3), None
    )
    assert (told.stored_as.scheme, told.zones, told.survives_zones, told.small_as) == ("rs-8-4", 3, 1, "replica-5")
    for request in (
        pb.ExplainProfileRequest(tier="gold"),
        pb.ExplainProfileRequest(criticality="huge"),
        pb.ExplainProfileRequest(nodes=5, devices=2),
    ):
        with pytest.raises(InvalidArgument):
            await asked.ExplainProfile(request, None)


async def test_the_clusters_tier_decides_for_buckets_that_name_none() -> None:
    cluster = Cluster(bucket("b", Policy()), devices=9)
    asked = service(cluster)
    assert (await asked.SetTier(pb.SetTierRequest(), None)).tier == "smb"
    assert profiles.stored_as(cluster, Policy()) == "rs-4-2"  # type: ignore[arg-type]
    assert (await asked.SetTier(pb.SetTierRequest(tier="high-stakes"), None)).changed
    assert not (await asked.SetTier(pb.SetTierRequest(tier="high-stakes"), None)).changed
    assert profiles.stored_as(cluster, Policy()) == "rs-6-3"  # type: ignore[arg-type]
    assert profiles.stored_as(cluster, Policy(tier=Tier.INDIVIDUAL)) == "rs-4-1"  # type: ignore[arg-type]
    told = await asked.ExplainProfile(pb.ExplainProfileRequest(what="b"), None)
    assert (told.tier, "tier high-stakes (of the cluster)" in told.reasons[0]) == ("", True)


async def test_what_a_bucket_is_stored_as_is_not_known_before_there_is_a_layout() -> None:
    cluster = Cluster(devices=0)
    assert profiles.stored_as(cluster, Policy()) == ""  # type: ignore[arg-type]
    with pytest.raises(Unavailable):
        await service(cluster).ListProfiles(pb.ListProfilesRequest(), None)
