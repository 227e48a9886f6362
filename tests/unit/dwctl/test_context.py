"""Which cluster a command talks to."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from dwctl import context
from dwd.base.errors import InvalidArgument, NotFound
from tests.unit.dwctl.conftest import Ran

Dwctl = Callable[..., Ran]


def test_option_wins_over_environment_wins_over_the_current_context(
    cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = []
    for name in ("one", "two", "three"):
        path = tmp_path / name / "cluster.json"
        path.parent.mkdir()
        path.write_text(cluster.read_text())
        paths.append(path)
    with pytest.raises(NotFound, match="no cluster is chosen"):
        context.find_cluster(None)
    context.remember("one", paths[0])
    assert context.find_cluster(None).path == paths[0]
    monkeypatch.setenv("DWCTL_CLUSTER", str(paths[1]))
    assert context.find_cluster(None).path == paths[1]
    assert context.find_cluster(str(paths[2].parent)).path == paths[2]
    assert context.find_cluster("one").path == paths[0]


def test_context_is_used_listed_and_forgotten(dwctl: Dwctl, cluster: Path) -> None:
    assert dwctl("context", "use", str(cluster.parent)).code == 0
    assert dwctl("context", "list", "--json").document == {
        "contexts": [{"name": "lab", "cluster": str(cluster), "current": True}]
    }
    assert dwctl("context", "use", "nowhere").code == 3
    assert dwctl("context", "forget", "lab").code == 0
    assert dwctl("context", "forget", "lab").code == 3
    assert dwctl("cluster", "status").code == 3


def test_context_is_named_for_its_cluster_unless_that_could_not_be_a_file(dwctl: Dwctl, cluster: Path) -> None:
    for called, name in (("prod", "prod"), ("../x", "lab"), ("", "lab")):
        cluster.write_text(json.dumps({**json.loads(cluster.read_text()), "cluster": called}))
        assert dwctl("context", "use", str(cluster.parent), "--json").document["context"] == name


def test_name_stays_with_the_cluster_that_has_it_when_another_is_called_the_same(cluster: Path, tmp_path: Path) -> None:
    other = tmp_path / "cluster.json"
    other.write_text(cluster.read_text())
    assert [context.remember("lab", path) for path in (cluster, other, cluster, other)] == [
        "lab",
        "lab-2",
        "lab",
        "lab-2",
    ]
    assert context.find_cluster("lab").path == cluster
    cluster.unlink()
    assert context.remember("lab", other) == "lab"


def test_cluster_that_stopped_is_forgotten_under_every_name(cluster: Path, tmp_path: Path, home: Path) -> None:
    other = tmp_path / "cluster.json"
    other.write_text(cluster.read_text())
    context.remember("a", cluster)
    context.remember("kept", other)
    context.remember("b", cluster)
    (home / "dwctl" / "contexts" / "broken.json").write_text("{")
    context.forget(cluster)
    assert sorted(path.name for path in (home / "dwctl" / "contexts").iterdir()) == ["broken.json", "kept.json"]
    assert not (home / "dwctl" / "current").exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"nodes": [{}], "operator": {}}'])
def test_damaged_cluster_file_is_named(cluster: Path, content: str) -> None:
    cluster.write_text(content)
    with pytest.raises(InvalidArgument, match="is not a"):
        context.read_cluster(cluster)


def test_certificates_are_found_beside_the_cluster_file(cluster: Path) -> None:
    found = context.read_cluster(cluster)
    assert (found.key, found.nodes[0].name) == (cluster.parent / "o.key", "n1")
    document = json.loads(cluster.read_text())
    document["operator"]["key"] = "/elsewhere/o.key"
    cluster.write_text(json.dumps(document))
    assert context.read_cluster(cluster).key == Path("/elsewhere/o.key")


def test_nodes_that_joined_are_learned_and_none_is_forgotten(cluster: Path) -> None:
    before = context.read_cluster(cluster)
    first = before.nodes[0]
    moved = replace(first, grpc="127.0.0.1:9", data_dir="")
    joined = context.NodeEntry(id="f" * 16, name="n9", grpc="127.0.0.1:10", s3="127.0.0.1:11", admin="", data_dir="")
    assert context.learn(before, [moved, joined])
    after = context.read_cluster(cluster)
    assert [n.id for n in after.nodes] == [*(n.id for n in before.nodes), joined.id]
    assert after.nodes[0].grpc == "127.0.0.1:9"
    assert after.nodes[0].data_dir == first.data_dir
    assert cluster.stat().st_mode & 0o077 == 0
    assert not context.learn(after, [moved, joined])
    assert {k: v for k, v in after.document.items() if k != "nodes"} == {
        k: v for k, v in before.document.items() if k != "nodes"
    }
