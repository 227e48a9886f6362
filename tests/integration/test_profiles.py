"""Profiles on a real cluster: what does not fit is refused, and a bucket changes its profile while it is used."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.clients import Anywhere, Load, bucket, content, verify
from tests.integration.harness import Cluster, until

FEW = {f"k{n}": size for n, size in enumerate((0, 5_000, 100_000, 131_072, 700_000, 5_000_000))}


def set_profile(cluster: Cluster, name: str, profile: str, *more: str) -> dict[str, object]:
    ended: dict[str, object] = cluster.dwctl("bucket", "set-profile", name, profile, "--yes", *more).good().json
    return ended


def test_a_bucket_changes_its_profile_while_clients_read_and_write(cluster: Cluster) -> None:
    with bucket(cluster, "changing") as name:
        client = Anywhere(cluster)
        for key, size in FEW.items():
            client.put(name, key, content(key, size))
        client.call(lambda s3: s3.copy_object(Bucket=name, Key="copy", CopySource={"Bucket": name, "Key": "k4"}))
        with Load(cluster, name) as load:
            until("clients are at work", load.more(4))
            ended = set_profile(cluster, name, "replica-3", "--tier", "enterprise")
            assert (ended["state"], ended["unit"]) == ("done", "blocks")
            until("clients go on", load.more(4))
        load.check()
        verify(cluster, name, FEW)
        assert client.get(name, "copy") == content("k4", FEW["k4"])
        shown = cluster.dwctl("bucket", "show", name).good().json
        assert (shown["profile"], shown["tier"], shown["explanation"]["stored_as"]["scheme"]) == (
            "replica-3", "enterprise", "replica-3",
        )  # fmt: skip
        again = set_profile(cluster, name, "replica-3")
        assert str(again["result"]).startswith("0 blocks"), "all that was there, and all that came, is as it should be"


def test_what_the_cluster_cannot_hold_is_refused_and_says_what_is_missing(cluster: Cluster) -> None:
    profiles = {p["name"]: p for p in cluster.dwctl("profile", "list").good().json["profiles"]}
    assert profiles["rs-4-2"]["missing"] == ""
    assert profiles["standard"]["missing"] == "needs 9 devices, the cluster has 6"
    refused = cluster.dwctl("bucket", "create", "too-wide", "--profile", "standard")
    assert (refused.code, refused.json["error"]["code"]) == (2, "blocks.too_few_devices")
    with bucket(cluster, "wide") as name:
        refused = cluster.dwctl("bucket", "set-profile", name, "standard", "--yes")
        assert (refused.code, refused.json["error"]["code"]) == (2, "blocks.too_few_devices")
        dry = cluster.dwctl("bucket", "set-profile", name, "standard", "--allow-fallback", "--dry-run").good().json
        assert "needs 9 devices" in dry["warnings"][0]
    chosen = cluster.dwctl("profile", "explain", "--tier", "high-stakes", "--nodes", "12", "--zones", "3").good().json
    assert chosen["stored_as"]["scheme"] == "rs-6-3"


@pytest.mark.campaign
def test_a_bucket_is_stored_anew_when_the_nodes_that_run_the_job_are_killed(
    make_cluster: Callable[..., Cluster],
) -> None:
    cluster = make_cluster(6, profile="rs-4-2")
    with bucket(cluster, "killed") as name:
        client = Anywhere(cluster)
        sizes = {f"k{n:03d}": 4_000_000 + n for n in range(60)}
        for key, size in sizes.items():
            client.put(name, key, content(key, size))
        with Load(cluster, name) as load:
            started = cluster.dwctl("bucket", "set-profile", name, "rs-3-2", "--yes", "--no-wait")
            job = started.json["job"]
            for _ in range(2):
                found = until("a node runs the job", lambda: running_on(cluster, job))
                if found == "over":
                    break
                cluster.act("kill", found)
                until("clients go on", load.more(2))
                cluster.act("start", found)
            until(
                "the job is done",
                lambda: cluster.dwctl("job", "show", job).good().json["state"] == "done",
                seconds=180,
            )
        load.check()
        verify(cluster, name, sizes)
        again = set_profile(cluster, name, "rs-3-2")
        assert str(again["result"]).startswith("0 blocks")


def running_on(cluster: Cluster, job: str) -> str:
    """The name of the node that runs it; empty while none does."""
    shown = cluster.dwctl("job", "show", job).good().json
    if shown["over"]:
        return "over"
    return str(shown["runner_name"])
