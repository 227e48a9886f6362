"""dwctl profile, and what bucket verbs say of profiles."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dwctl.commands import bucket
from dwd.base.errors import InvalidArgument
from dwd.base.exits import Exit
from dwd.pb.admin.v1 import admin_pb2, profiles_pb2
from tests.unit.dwctl.conftest import Node, Ran

Dwctl = Callable[..., Ran]
FITS = profiles_pb2.ProfileView(
    name="auto", scheme="rs-4-2", kind="reed-solomon", overhead=1.5, survives=2, devices_min=6
)
WHY = profiles_pb2.ProfileExplanation(
    profile="auto", criticality="normal", stored_as=FITS, reasons=["tier smb: 2 losses"],
    cluster="6 devices on 6 nodes",
    survives_devices=2, survives_nodes=2, zones=1, small_as="replica-3", small_bytes=131_072, fallbacks=["rs-3-2"],
)  # fmt: skip


def test_profiles_say_what_the_cluster_lacks_for_them(dwctl: Dwctl, node: Node) -> None:
    lacks = profiles_pb2.ProfileView(
        name="standard", scheme="rs-6-3", kind="reed-solomon", overhead=1.5, survives=3, devices_min=9,
        missing="needs 9 devices, the cluster has 6",
    )  # fmt: skip
    node.answers["ListProfiles"] = profiles_pb2.ListProfilesReply(
        profiles=[FITS, lacks], cluster="6 devices on 6 nodes", tier="smb", default_profile="auto"
    )
    ran = dwctl("profile", "list")
    rows = [line.split("\t") for line in ran.out.splitlines()]
    assert rows[1] == ["auto", "rs-4-2", "reed-solomon", "1.50", "2", "6", "fits"]
    assert rows[2][-1] == "needs 9 devices, the cluster has 6"
    assert "buckets that name none get auto" in ran.err
    assert dwctl("profile", "list", "--json").document["profiles"][1]["missing"] == rows[2][-1]


def test_an_explanation_names_reasons_price_and_what_is_written_meanwhile(dwctl: Dwctl, node: Node) -> None:
    node.answers["ExplainProfile"] = WHY
    ran = dwctl("profile", "explain", "--tier", "smb", "--nodes", "6")
    assert ran.out.splitlines()[:2] == ["auto is stored as rs-4-2 on 6 devices on 6 nodes", "  tier smb: 2 losses"]
    assert "1.50 bytes on devices for a byte; blocks below 128 KiB as replica-3" in ran.out
    assert "survives  the loss of 2 devices, or 2 nodes" in ran.out
    assert "fallback  rs-3-2 (if the bucket allows it)" in ran.out
    (method, request) = node.asked[-1]
    assert (method, request.tier, request.nodes, request.is_bucket) == ("ExplainProfile", "smb", 6, False)

    lacking = profiles_pb2.ProfileExplanation()
    lacking.CopyFrom(WHY)
    lacking.bucket, lacking.profile, lacking.allow_fallback, lacking.meanwhile = "b", "rs-4-2", True, "replica-3"
    lacking.stored_as.name, lacking.stored_as.missing = "rs-4-2", "needs 6 devices, the cluster has 3"
    node.answers["ExplainProfile"] = lacking
    out = dwctl("profile", "explain", "b").out
    assert "bucket b: rs-4-2 is stored as replica-3" in out
    assert "1.50 bytes on devices for a byte as rs-4-2;" in out
    assert "rs-4-2 needs 6 devices, the cluster has 3; until then replica-3 is written, and upgraded" in out


def test_the_tier_is_shown_or_set(dwctl: Dwctl, node: Node) -> None:
    node.answers["SetTier"] = profiles_pb2.SetTierReply(tier="enterprise", changed=True)
    assert dwctl("profile", "tier", "enterprise").out == "tier enterprise from now on\n"
    assert node.asked[-1][1].tier == "enterprise"
    node.answers["SetTier"] = profiles_pb2.SetTierReply(tier="smb")
    assert dwctl("profile", "tier").out == "tier smb\n"


def test_buckets_say_what_their_profile_means_today(dwctl: Dwctl, node: Node) -> None:
    made = admin_pb2.Bucket(name="b", owner="o", profile="auto", stored_as="replica-3", objects=3)
    node.answers["ListBuckets"] = admin_pb2.ListBucketsReply(buckets=[made])
    node.answers["ExplainProfile"] = WHY
    assert "auto (replica-3)" in dwctl("bucket", "list").out
    ran = dwctl("bucket", "show", "b")
    assert ran.out.startswith("bucket b of o")
    assert "tier smb: 2 losses" in ran.out
    assert node.asked[-1][1].is_bucket
    assert dwctl("bucket", "show", "b", "--json").document["explanation"]["stored_as"]["scheme"] == "rs-4-2"
    assert dwctl("bucket", "show", "other").code == Exit.NOT_FOUND


def test_a_bucket_is_made_with_tier_criticality_and_fallback(dwctl: Dwctl, node: Node) -> None:
    node.answers["CreateBucket"] = admin_pb2.Bucket(name="b", owner="o", profile="auto", stored_as="rs-4-2")
    arguments = ("--profile", "auto", "--tier", "smb", "--criticality", "high", "--allow-fallback")
    assert "profile auto (rs-4-2)" in dwctl("bucket", "create", "b", *arguments).out
    request = node.asked[-1][1]
    assert (request.profile, request.tier, request.criticality, request.allow_fallback) == ("auto", "smb", "high", True)
    node.answers["CreateBucket"] = InvalidArgument("blocks.too_few_devices", "rs-4-2 needs 6 devices", hint="add some")
    refused = dwctl("bucket", "create", "b", "--profile", "rs-4-2")
    assert refused.code == Exit.USAGE
    assert "needs 6 devices" in refused.err


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ((), {}),
        (("--no-convert",), {"convert": "no"}),
        (("--tier", "smb", "--criticality", "high"), {"tier": "smb", "criticality": "high"}),
        (("--allow-fallback",), {"fallback": "yes"}),
        (("--no-fallback",), {"fallback": "no"}),
    ],
)
def test_set_profile_starts_the_job_with_what_was_said(
    dwctl: Dwctl, node: Node, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], arguments: dict[str, str]
) -> None:
    started: list[Any] = []
    monkeypatch.setattr(
        bucket, "run_job", lambda _client, kind, given, **flags: started.append((kind, given, flags["wait"]))
    )
    assert dwctl("bucket", "set-profile", "b", "rs-6-3", *options, "--no-wait").code == 0
    wanted = {"bucket": "b", "profile": "rs-6-3", "convert": "yes", **arguments}
    assert started == [("bucket.profile", wanted, False)]
