"""dwctl against real clusters: what scripts rely on, exit codes and JSON, and how little it costs to start."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.clients import bucket, client_at, content
from tests.integration.harness import Cluster, run


def fails(cluster: Cluster, code: int, *arguments: str) -> str:
    """The dotted error code it failed with, told as JSON on its standard error."""
    ran = cluster.dwctl(*arguments)
    assert ran.code == code, (arguments, ran)
    error = json.loads(ran.err.splitlines()[-1])["error"]
    assert error["message"]
    assert "Traceback" not in ran.err
    return str(error["code"])


def test_status_names_leaders_terms_and_devices(cluster: Cluster) -> None:
    found = cluster.status()
    ids = {n["id"] for n in found["nodes"]}
    assert len(ids) == 6
    assert found["health"] == "healthy"
    assert {g["kind"] for g in found["groups"]} == {"control", "shard"}
    for group in found["groups"]:
        assert group["leader"] in ids
        assert group["term"] >= 1
        assert group["applied_index"] >= 1
        assert sum(m["role"] == "voter" for m in group["members"]) == 5
    assert {d["node"] for d in found["devices"] if d["state"] == "active"} == ids
    assert found["redundancy"]["fully_redundant"]
    listed = cluster.dwctl("node", "list").good().json["nodes"]
    assert {n["id"] for n in listed} == ids


def test_objects_travel_whole_through_dwctl(cluster: Cluster, tmp_path: Path) -> None:
    body = content("dwctl", 900_000)
    (tmp_path / "in").write_bytes(body)
    with bucket(cluster, "by-dwctl") as name:
        cluster.dwctl("object", "put", name, "a/b", str(tmp_path / "in")).good()
        stat = cluster.dwctl("object", "stat", name, "a/b").good().json
        assert stat["size"] == len(body)
        assert [o["key"] for o in cluster.dwctl("object", "list", name).good().json["objects"]] == ["a/b"]
        cluster.dwctl("object", "get", name, "a/b", str(tmp_path / "out")).good()
        assert (tmp_path / "out").read_bytes() == body
        cluster.dwctl("object", "delete", name, "a/b").good()
        fails(cluster, 3, "object", "stat", name, "a/b")


def test_exit_codes_say_what_kind_of_failure_it_was(cluster: Cluster, tmp_path: Path) -> None:
    with bucket(cluster, "codes") as name:
        assert cluster.dwctl("bucket", "no-such-verb").code == 2
        fails(cluster, 2, "bucket", "create", "No_Good_Name")
        fails(cluster, 2, "bucket", "create", "codes-profile", "--profile", "rs-99-99")
        fails(cluster, 3, "bucket", "delete", "nowhere", "--yes")
        fails(cluster, 3, "object", "get", name, "nothing", str(tmp_path / "out"))
        assert not (tmp_path / "out").exists()
        fails(cluster, 8, "bucket", "create", name)
        client_at(cluster.document["s3"], cluster.document["s3"]["endpoint"]).put_object(Bucket=name, Key="k", Body=b"")
        fails(cluster, 8, "bucket", "delete", name, "--yes")


def test_unavailable_when_no_node_answers_and_not_found_when_no_cluster_is_chosen(
    cluster: Cluster, tmp_path: Path
) -> None:
    document = json.loads((cluster.root / "cluster.json").read_text())
    for node in document["nodes"]:
        node["grpc"] = "127.0.0.1:1"
    for kind, file in document["operator"].items():
        document["operator"][kind] = str(cluster.root / file)
    (tmp_path / "cluster.json").write_text(json.dumps(document))
    assert (
        fails(cluster, 5, "cluster", "status", "--context", str(tmp_path / "cluster.json")) == "dwctl.no_node_answers"
    )
    nothing = {"XDG_CONFIG_HOME": str(tmp_path / "empty"), "DWCTL_CLUSTER": ""}
    ran = run("dwctl.main", "cluster", "status", env=nothing)
    assert ran.code == 3
    assert "dwctl dev up" in ran.err


def test_operator_of_another_cluster_is_not_let_in(cluster: Cluster, tmp_path: Path) -> None:
    from tests.integration.install import Node  # noqa: PLC0415

    other = Node(tmp_path / "other", "other")
    other.init()
    document = json.loads((cluster.root / "cluster.json").read_text())
    document["operator"] = {
        "authority": str(cluster.root / "operator/authority.pem"),
        "certificate": str(other.operator / "operator.pem"),
        "key": str(other.operator / "operator.key"),
    }
    (tmp_path / "cluster.json").write_text(json.dumps(document))
    ran = cluster.dwctl("cluster", "status", "--context", str(tmp_path / "cluster.json"))
    assert ran.code in {5, 7}, ran
    assert "Traceback" not in ran.err


def test_disabled_key_is_refused_at_every_endpoint_and_users_come_and_go(cluster: Cluster) -> None:
    from botocore.exceptions import ClientError  # noqa: PLC0415

    s3 = cluster.document["s3"]
    cluster.dwctl("user", "create", "ann").good()
    key = cluster.dwctl("key", "create", "ann").good().json
    own = {**s3, "access_key": key["id"], "secret_key": key["secret"]}
    client_at(own, s3["endpoints"][1]).list_buckets()
    cluster.dwctl("key", "disable", key["id"]).good()
    for endpoint in s3["endpoints"]:
        with pytest.raises(ClientError) as failed:
            client_at(own, endpoint).list_buckets()
        assert failed.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403
    cluster.dwctl("key", "enable", key["id"]).good()
    client_at(own, s3["endpoints"][2]).list_buckets()
    cluster.dwctl("key", "delete", key["id"]).good()
    cluster.dwctl("user", "delete", "ann", "--yes").good()
    fails(cluster, 3, "key", "disable", key["id"])


def test_dwctl_starts_light_when_it_talks_to_no_cluster() -> None:
    """The import of grpc alone takes a third of a second to import; how long a start takes is measured in perf/."""
    code = (
        "import sys; sys.argv = ['dwctl', 'context', 'list']\n"
        "from dwctl.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print(*sorted({'grpc', 'google.protobuf', 'rich', 'cryptography', 'asyncio'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == ""
