"""Layouts by dwctl against real clusters: what a change would move, plans that are applied as shown, a seventh node."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration.clients import bucket, client_at, content
from tests.integration.harness import Cluster, until
from tests.integration.install import Node

BODY_BYTES = 300_000


def fails(cluster: Cluster, code: int, *arguments: str) -> str:
    ran = cluster.dwctl(*arguments)
    assert ran.code == code, (arguments, ran)
    return str(json.loads(ran.err.splitlines()[-1])["error"]["code"])


def by_profile(plan: dict[str, Any], profile: str) -> dict[str, Any]:
    return next(found for found in plan["survivals"] if found["profile"] == profile)


def test_a_seventh_node_is_planned_and_an_older_layout_refused_when_less_would_be_survived(cluster: Cluster) -> None:
    with bucket(cluster, "planned") as name:
        s3 = cluster.document["s3"]
        client_at(s3, s3["endpoint"]).put_object(Bucket=name, Key="k", Body=content("k", BODY_BYTES))
        weight = cluster.dwctl("layout", "show").good().json["devices"][0]["weight"]
        plan = cluster.dwctl("layout", "plan", "--add-node", f"n7@z7:{weight}").good().json
    assert plan["what_if"]
    assert plan["hash"] == ""
    (seventh,) = [d for d in plan["devices"] if d["node_name"] == "n7"]
    assert seventh["slots_before"] == 0
    assert 0.98 <= seventh["slots_after"] / (1_024 * 6 / 7) <= 1.02
    assert 0 < plan["least_bytes"] <= plan["moved_bytes"] <= 1.2 * plan["least_bytes"]
    survival = by_profile(plan, "rs-4-2")
    assert [survival[when]["nodes"] for when in ("before", "after")] == [2, 2]
    assert plan["refusals"] == []
    fewer = cluster.dwctl("layout", "plan", "--remove-node", "n6").good().json
    assert any("nodes" in reason for reason in fewer["refusals"])
    assert fails(cluster, 3, "layout", "plan", "--remove-node", "n66") == "node.not_found"

    cluster.dwctl("layout", "auto", "off").good()
    try:
        shown = cluster.dwctl("layout", "show").good().json
        older = [e["epoch"] for e in shown["epochs"] if 0 < e["devices"] < 6]
        assert fails(cluster, 3, "layout", "apply", "--yes") == "layout.nothing_staged"
        if older:  # the cluster grew from fewer nodes, and that layout is still kept
            assert fails(cluster, 4, "layout", "revert", str(older[0]), "--yes") == "layout.less_survived"
            assert cluster.dwctl("layout", "show").good().json["staged"]["hash"]
            assert fails(cluster, 8, "layout", "apply", "--plan", "00000000") == "layout.changed"
            cluster.dwctl("layout", "drop").good()
        assert cluster.dwctl("layout", "show").good().json["epoch"] == shown["epoch"]
    finally:
        cluster.dwctl("layout", "auto", "on").good()
    assert not cluster.dwctl("layout", "plan").good().json["changes"]


@pytest.mark.campaign
def test_a_seventh_node_takes_its_share_when_its_layout_is_applied(make_cluster: Any, tmp_path: Path) -> None:
    cluster: Cluster = make_cluster(6, profile="rs-4-2")
    s3 = cluster.document["s3"]
    store = client_at(s3, s3["endpoint"])
    store.create_bucket(Bucket="grown")
    keys = [f"k{n}" for n in range(30)]
    for key in keys:
        store.put_object(Bucket="grown", Key=key, Body=content(key, BODY_BYTES))
    cluster.dwctl("layout", "auto", "off").good()
    first = cluster.dwctl("layout", "show").good().json
    with ExitStack() as stack:
        seventh = Node(
            tmp_path / "n7", "n7", extra="[blocks]\nlayout_settle_seconds = 0.5\nlayout_retire_seconds = 5.0\n"
        )
        token = cluster.dwctl("node", "join-token").good().json["token"]
        seventh.dwd("join", "-", "--json", stdin=token + "\n").good()
        stack.enter_context(seventh.daemon())

        def staged() -> str:
            found = cluster.dwctl("layout", "show").good().json
            assert found["epoch"] == first["epoch"], "nothing is applied without an operator"
            assert [d["state"] for d in found["devices"]].count("waiting") == 1
            return str(found["staged"]["hash"])

        digest = until("a layout is staged", staged)
        plan = cluster.dwctl("layout", "plan").good().json
        assert plan["hash"] == digest
        assert plan["moved_bytes"] <= 1.2 * plan["least_bytes"]
        applied = cluster.dwctl("layout", "apply", "--plan", digest[:16]).good().json
        assert applied["applied"]

        def moved() -> bool:
            found = cluster.dwctl("layout", "show").good().json
            in_use = [e["epoch"] for e in found["epochs"] if not e["retired"]]
            return (
                found["epoch"] == first["epoch"] + 1 and in_use == [found["epoch"]] and found["epochs"][0]["blocks"] > 0
            )

        until("all blocks lie by the new layout, and the old one retired", moved, seconds=120)
        cluster.wait_whole()
        for key in keys:
            assert store.get_object(Bucket="grown", Key=key)["Body"].read() == content(key, BODY_BYTES)
