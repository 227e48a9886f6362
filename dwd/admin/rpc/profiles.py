"""The Profiles service: messages in, messages out; the verbs themselves stand in `dwd.admin.profiles`."""

from __future__ import annotations

from typing import Any

import grpc

from dwd.admin import profiles
from dwd.admin.context import AdminContext
from dwd.base.limits import SMALL_BLOCK_BYTES
from dwd.base.policy import AUTO, tier_name
from dwd.blocks.core.choice import fallbacks, shortfall
from dwd.blocks.core.domains import Domains
from dwd.blocks.core.profiles import Profile, scheme_for
from dwd.pb.admin.v1 import profiles_pb2 as pb
from dwd.pb.admin.v1 import profiles_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class ProfilesServicer(profiles_pb2_grpc.ProfilesServicer):
    """One a node."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context

    def register(self, server: grpc.aio.Server) -> None:
        """Serve this from `server`, which has not started yet."""
        profiles_pb2_grpc.add_ProfilesServicer_to_server(self, server)

    async def ListProfiles(self, request: pb.ListProfilesRequest, context: Context) -> pb.ListProfilesReply:
        domains = profiles.domains(self._context)
        return pb.ListProfilesReply(
            profiles=[_view(profile, domains) for profile in profiles.listed()],
            cluster=str(domains),
            tier=tier_name(profiles.tier(self._context)),
            default_profile=profiles.default_profile(self._context),
        )

    async def ExplainProfile(self, request: pb.ExplainProfileRequest, context: Context) -> pb.ProfileExplanation:
        asked = profiles.parse_policy(
            profile=AUTO, tier=request.tier, criticality=request.criticality, allow_fallback=False
        )
        imagined = profiles.imagine(devices=request.devices, nodes=request.nodes, zones=request.zones)
        what = request.what
        found = await profiles.explain(self._context, what, asked, imagined, is_bucket=request.is_bucket)
        profile = found.choice.profile
        return pb.ProfileExplanation(
            bucket=found.bucket,
            profile=found.policy.profile or AUTO,
            tier=tier_name(found.policy.tier),
            criticality=found.policy.criticality.name.lower(),
            allow_fallback=found.policy.allow_fallback,
            stored_as=_view(profile, found.domains),
            reasons=found.choice.reasons,
            cluster=str(found.domains),
            survives_devices=found.choice.survives.devices,
            survives_nodes=found.choice.survives.nodes,
            survives_zones=found.choice.survives.zones,
            zones=len(found.domains.zones),
            small_as=scheme_for(profile, 1).scheme,
            small_bytes=SMALL_BLOCK_BYTES,
            meanwhile=found.choice.meanwhile.scheme if found.choice.meanwhile is not None else "",
            fallbacks=[weaker.scheme for weaker in fallbacks(profile)],
        )

    async def SetTier(self, request: pb.SetTierRequest, context: Context) -> pb.SetTierReply:
        changed = bool(request.tier) and await profiles.set_tier(self._context, request.tier)
        tier = profiles.parse_tier(request.tier) if request.tier else profiles.tier(self._context)
        return pb.SetTierReply(tier=tier_name(tier), changed=changed)


def _view(profile: Profile, domains: Domains) -> pb.ProfileView:
    return pb.ProfileView(
        name=profile.name,
        scheme=profile.scheme,
        kind=profile.kind.value,
        overhead=profile.overhead,
        survives=profile.losses_survived,
        devices_min=profile.devices_min,
        missing=shortfall(profile, domains),
    )
