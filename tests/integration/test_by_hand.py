"""An installation as README says: init, run, join token, join, run; tokens that do not work twice or too late."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.clients import client_at
from tests.integration.harness import dwd_later, until
from tests.integration.install import Node


def test_three_nodes_become_a_cluster_when_installed_by_hand(tmp_path: Path) -> None:
    first, *others = (Node(tmp_path / name, name) for name in ("a", "b", "c"))
    facts = first.init()
    assert first.dwd("init").code == 8, "a second init must not replace an identity"
    with ExitStack() as stack:
        first.wait_ready(stack.enter_context(first.daemon()))
        for node in others:
            token = first.dwctl("node", "join-token").good().json["token"]
            joined = node.dwd("join", "-", "--json", stdin=token + "\n").good().json
            assert joined["cluster_id"] == facts["cluster_id"]
            node.wait_ready(stack.enter_context(node.daemon()))

        def settled() -> bool:
            found = first.dwctl("cluster", "status").good().json
            voters = [sum(m["role"] == "voter" for m in g["members"]) for g in found["groups"]]
            active = [d["state"] for d in found["devices"]]
            return found["health"] == "healthy" and voters == [3, 3] and active == ["active"] * 3

        until("three voters and three devices", settled)
        settings = first.s3_settings()
        client_at(settings, f"http://{first.s3}").create_bucket(Bucket="hand")
        body = bytes(range(256)) * 2048
        client_at(settings, f"http://{others[0].s3}").put_object(Bucket="hand", Key="k", Body=body)
        assert client_at(settings, f"http://{others[1].s3}").get_object(Bucket="hand", Key="k")["Body"].read() == body


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory):
    node = Node(tmp_path_factory.mktemp("issuer") / "a")
    node.init()
    with node.daemon() as daemon:
        node.wait_ready(daemon)
        yield node


def test_token_is_refused_when_another_node_used_it(issuer: Node, tmp_path: Path) -> None:
    token = issuer.dwctl("node", "join-token").good().json["token"]
    first, second = Node(tmp_path / "b", "b"), Node(tmp_path / "c", "c")
    first.dwd("join", token).good()
    ran = second.dwd("join", token)
    assert ran.code == 7, ran
    assert "used" in ran.err
    assert "  next: " in ran.err
    assert not (second.identity / "identity.json").exists()
    names = {n["name"] for n in issuer.dwctl("node", "list").good().json["nodes"]}
    assert "c" not in names


def test_join_is_repeated_as_the_same_node_when_it_broke_off(issuer: Node, tmp_path: Path) -> None:
    """The cluster took the node in, and the answer got lost."""
    token = issuer.dwctl("node", "join-token").good().json["token"]
    node = Node(tmp_path / "d", "d")
    joining = node.identity / "joining.json"
    node.dwd("join", token).good()
    made = json.loads((node.identity / "identity.json").read_text())["node_id"]
    assert not joining.exists()
    assert node.dwd("join", token).code == 8
    assert [n["id"] for n in issuer.dwctl("node", "list").good().json["nodes"] if n["name"] == "d"] == [made]


@pytest.mark.parametrize(("token", "words"), [("", "token"), ("dwd-not-a-token", "token"), ("x" * 4000, "token")])
def test_join_is_refused_when_the_token_is_no_token(tmp_path: Path, token: str, words: str) -> None:
    ran = Node(tmp_path, "e").dwd("join", "-", stdin=token + "\n")
    assert ran.code == 2
    assert words in ran.err
    assert "Traceback" not in ran.err


def test_join_is_refused_when_the_name_is_taken(issuer: Node, tmp_path: Path) -> None:
    token = issuer.dwctl("node", "join-token").good().json["token"]
    ran = Node(tmp_path, "a").dwd("join", token)
    assert ran.code == 8
    assert "a" in ran.err
    assert "  next: " in ran.err or "name" in ran.err


def test_join_is_refused_when_the_token_expired(issuer: Node, tmp_path: Path) -> None:
    """Tokens last minutes: the joining machine's clock is put forward instead of waiting."""
    token = issuer.dwctl("node", "join-token").good().json["token"]
    node = Node(tmp_path, "f")
    ran = dwd_later(2 * 3600, "join", token, "--config", str(node.config))
    assert ran.code in {2, 7}, ran.err
    assert "expired" in ran.err
    assert "  next: " in ran.err
