"""Membership, leadership and compaction from the command line: what is asked for, waited for, and said."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dwctl.commands import raft_member
from dwd.base.errors import SafetyRefused
from dwd.pb.admin.v1 import consensus_pb2 as pb
from tests.unit.dwctl.conftest import Node, Ran
from tests.unit.dwctl.test_raft_page import group, member, status

Dwctl = Callable[..., Ran]
VERB = pb.ChangeMembersRequest.Verb


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raft_member, "POLL_SECONDS", 0.0)


class Steps:
    """The statuses a node tells, one after another; the last again and again."""

    def __init__(self, node: Node, *found: pb.RaftGroup) -> None:
        self.found = list(found)
        ask = node.ask

        def next_answer(method: str, request: Any, **options: object) -> Any:
            if method == "RaftStatus":
                node.asked.append((method, request))
                return status(self.found.pop(0) if len(self.found) > 1 else self.found[0])
            return ask(method, request, **options)

        node.ask = next_answer  # type: ignore[method-assign]


def wanted(*numbers: int, membership: str = "pinned", **facts: Any) -> pb.ChangeMembersReply:
    members = [pb.RaftMember(node=f"id{n}", role="voter") for n in numbers]
    return pb.ChangeMembersReply(group=1, membership=membership, wanted=members, changed=True, **facts)


def requests(node: Node) -> list[pb.ChangeMembersRequest]:
    return [request for method, request in node.asked if method == "ChangeMembers"]


def test_change_is_judged_first_then_made_and_waited_for(dwctl: Dwctl, node: Node) -> None:
    node.answers["ChangeMembers"] = wanted(1, 2)
    early = group(1, membership="auto")
    under_way = group(1, membership="pinned", doing="n3 is to leave")
    there = group(1, member(1), member(2), membership="pinned")
    Steps(node, early, early, under_way, there)
    ran = dwctl("raft", "member", "remove", "1", "n3", "--force")
    assert (ran.code, ran.out) == (0, "group 1: members are as pinned\n")
    assert "group 1 would be pinned: n1 (voter), n2 (voter)" in ran.err
    assert "n3 is to leave" in ran.err
    first, second = requests(node)
    assert (first.verb, first.node, first.force) == (VERB.REMOVE, "n3", True)
    assert second.dry_run is False


def test_dry_run_changes_nothing(dwctl: Dwctl, node: Node) -> None:
    node.answers["ChangeMembers"] = wanted(1, 2, 3, remarks=["mind the gap"])
    Steps(node, group(1))
    ran = dwctl("raft", "member", "add", "1", "n3", "--role", "voter", "--dry-run")
    assert [line.split("\t")[:2] for line in ran.out.splitlines()[1:]] == [[f"n{n}", "voter"] for n in (1, 2, 3)]
    assert "mind the gap" in ran.err
    (request,) = requests(node)
    assert (request.dry_run, request.role, request.verb) == (True, "voter", VERB.ADD)


def test_refusal_exits_4_with_reason_and_what_overrides_it(dwctl: Dwctl, node: Node) -> None:
    node.answers["ChangeMembers"] = SafetyRefused("raft.fewer_losses", "fewer", hint="or say --force")
    for verb in ("promote", "demote", "remove"):
        ran = dwctl("raft", "member", verb, "1", "n3", "--yes")
        assert (ran.code, ran.err) == (4, "error: fewer (raft.fewer_losses)\n  next: or say --force\n")


def test_wait_ends_when_somebody_changed_the_members_again(dwctl: Dwctl, node: Node) -> None:
    node.answers["ChangeMembers"] = wanted(1, 2)
    Steps(node, group(1, membership="pinned", doing="n3 is to leave"), group(1, membership="auto"))
    assert dwctl("raft", "member", "remove", "1", "n3", "--yes").code == 8


def test_wait_is_bounded_and_says_what_is_missing(dwctl: Dwctl, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(raft_member, "WAIT_SECONDS", 0.0)
    node.answers["ChangeMembers"] = wanted(1, 2)
    Steps(node, group(1, membership="pinned", doing="n2 is to become a voter"))
    ran = dwctl("raft", "member", "promote", "1", "n2", "--yes")
    assert (ran.code, "n2 is to become a voter" in ran.err) == (5, True)


def test_members_are_left_to_the_cluster_again(dwctl: Dwctl, node: Node) -> None:
    node.answers["ChangeMembers"] = wanted(1, 2, 3, membership="auto")
    Steps(node, group(1, membership="pinned"), group(1, membership="auto"))
    assert dwctl("raft", "member", "auto", "1", "--yes").out == "group 1: members are up to the cluster\n"
    assert requests(node)[-1].verb == VERB.AUTO
    assert dwctl("raft", "member", "auto", "1", "--yes", "--no-wait", "--json").document["membership"] == "auto"


def test_members_are_listed_with_what_is_under_way(dwctl: Dwctl, node: Node) -> None:
    Steps(node, group(1, doing="n4 is to leave"))
    ran = dwctl("raft", "member", "list", "1")
    assert [line.split("\t")[:3] for line in ran.out.splitlines()[1:]] == [
        ["n1", "voter", "leader"], ["n2", "voter", "replicate"], ["n3", "voter", "replicate"]
    ]  # fmt: skip
    assert ran.err == "under way: n4 is to leave\n"


def test_transfer_tells_who_leads_now(dwctl: Dwctl, node: Node) -> None:
    Steps(node, group(1))
    node.answers["TransferLeadership"] = pb.TransferLeadershipReply(
        group=1, leader="id2", previous="id1", seconds=0.031
    )
    ran = dwctl("raft", "transfer", "1", "--to", "n2")
    assert ran.out == "group 1 is led by n2, was by n1; it took 31 ms\n"
    assert [r.node for m, r in node.asked if m == "TransferLeadership"] == ["n2"]


def test_compaction_fails_when_a_node_could_not(dwctl: Dwctl, node: Node) -> None:
    Steps(node, group(1))
    cut = pb.Compacted(node="id1", entries_removed=1_200, bytes_removed=2048, first_index=1201)
    node.answers["CompactGroup"] = pb.CompactGroupReply(nodes=[cut])
    assert dwctl("raft", "compact", "1").out.splitlines()[1].split("\t")[:3] == ["n1", "1,200", "2 KiB"]
    node.answers["CompactGroup"] = pb.CompactGroupReply(nodes=[cut, pb.Compacted(node="id2", error="busy")])
    ran = dwctl("raft", "compact", "1")
    assert (ran.code, "n2: busy" in ran.err) == (1, True)
