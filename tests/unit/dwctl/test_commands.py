"""What commands print and how they exit, for people, pipes and scripts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from rich.text import Text

from dwctl.main import app
from dwd.base import errors
from dwd.base.errors import DwError
from dwd.pb.admin.v1 import admin_pb2 as pb
from tests.unit.dwctl.conftest import Node, Ran
from tools.commands import leaves

Dwctl = Callable[..., Ran]

EXITS = [
    (errors.StorageFailed, 1),
    (errors.InvalidArgument, 2),
    (errors.NotFound, 3),
    (errors.SafetyRefused, 4),
    (errors.Unavailable, 5),
    (errors.Busy, 5),
    (errors.DeadlineExceeded, 5),
    (errors.OutcomeUnknown, 6),
    (errors.PermissionDenied, 7),
    (errors.Unauthenticated, 7),
    (errors.Conflict, 8),
    (errors.AlreadyExists, 8),
]


@pytest.mark.parametrize(("kind", "code"), EXITS)
def test_exit_code_says_what_kind_of_failure_it_was(dwctl: Dwctl, node: Node, kind: type[DwError], code: int) -> None:
    node.answers["CreateBucket"] = kind("some.code", "it went wrong", hint="do this", limit=3)
    ran = dwctl("bucket", "create", "b")
    assert (ran.code, ran.out) == (code, "")
    assert ran.err == "error: it went wrong (some.code)\n  next: do this\n"
    told = dwctl("bucket", "create", "b", "--json")
    assert (told.code, told.out) == (code, "")
    assert json.loads(told.err)["error"] == {
        "code": "some.code",
        "message": "it went wrong",
        "hint": "do this",
        "retryable": kind.retryable,
        "fields": {"limit": 3},
    }


def test_wrong_usage_is_told_as_json_to_scripts(dwctl: Dwctl) -> None:
    ran = dwctl("bucket", "create", "--json")
    assert (ran.code, ran.out, json.loads(ran.err)["error"]["code"]) == (2, "", "dwctl.usage")
    assert dwctl("bucket", "create").code == 2


@pytest.mark.parametrize(
    "command",
    [
        "",
        "cluster",
        "node",
        "bucket",
        "object",
        "user",
        "key",
        "raft",
        "worker",
        "context",
        "dev",
        "dev up",
        "object put",
    ],
)
def test_help_says_what_each_thing_does(dwctl: Dwctl, command: str) -> None:
    ran = dwctl(*command.split(), "--help")
    assert ran.code == 0
    assert "Usage:" in ran.out


def test_help_of_every_command_is_shown_whole_when_its_words_hold_brackets() -> None:
    for path, command in leaves("dwctl", typer.main.get_command(app)):
        texts = [command.help, command.epilog, *(getattr(parameter, "help", "") for parameter in command.params)]
        for text in filter(None, texts):
            assert Text.from_markup(text).plain == text, f"{path}: the terminal reads a part of this as markup"


def test_table_is_plain_columns_when_piped_and_whole_as_json(dwctl: Dwctl, node: Node) -> None:
    made = pb.Bucket(
        name="b", owner="o", profile="rs-4-2", objects=1234, bytes=5 << 20, created_unix_ms=1, criticality="normal",
        stored_as="rs-4-2", encryption="off",
    )  # fmt: skip
    node.answers["ListBuckets"] = pb.ListBucketsReply(buckets=[made])
    names, row = dwctl("bucket", "list").out.splitlines()
    assert names.split("\t") == ["name", "owner", "profile", "objects", "size", "created"]
    assert row.split("\t") == ["b", "o", "rs-4-2", "1,234", "5 MiB", "1970-01-01 00:00:00Z"]
    document = dwctl("bucket", "list", "--json").document
    assert document["buckets"] == [
        {
            "name": "b", "owner": "o", "profile": "rs-4-2", "created_unix_ms": 1, "objects": 1234, "bytes": 5 << 20,
            "tier": "", "criticality": "normal", "allow_fallback": False, "stored_as": "rs-4-2", "compression": 0,
            "encryption": "off", "named_key": "", "packed_bytes": 0, "stored_bytes": 0,
        }
    ]  # fmt: skip


def test_secret_of_a_new_key_is_shown_once_and_next_steps_are_named(dwctl: Dwctl, node: Node) -> None:
    node.answers["CreateAccessKey"] = pb.AccessKey(id="AK", user="u", secret="s3cret", enabled=True)
    assert "s3cret" in dwctl("key", "create", "u").out
    node.answers["CreateUser"] = pb.User(name="u", enabled=True)
    assert "next: dwctl key create u" in dwctl("user", "create", "u").out


def test_worker_is_not_touched_when_nothing_is_to_be_set(dwctl: Dwctl, node: Node) -> None:
    assert dwctl("worker", "set", "blocks.gc").code == 2
    assert node.asked == []
    node.answers["SetWorker"] = pb.SetWorkerReply(changed=6)
    assert dwctl("worker", "set", "blocks.gc", "--pause").out == "changed blocks.gc on 6 nodes\n"
    ((_, request),) = node.asked
    assert (request.paused, request.HasField("pace")) == (True, False)


def test_workers_are_listed_by_the_names_of_nodes_that_cluster_json_never_heard_of(dwctl: Dwctl, node: Node) -> None:
    node.answers["ClusterStatus"] = pb.ClusterStatusReply(
        nodes=[pb.NodeInfo(id="a1", name="n10"), pb.NodeInfo(id="a2", name="n2")]
    )
    workers = [pb.WorkerInfo(node=n, name="blocks.gc", state="idle", pace=2.0) for n in ("a1", "a2")]
    node.answers["ListWorkers"] = pb.ListWorkersReply(workers=workers)
    assert [line.split("\t")[0] for line in dwctl("worker", "list").out.splitlines()] == ["node", "n2", "n10"]
    for told in ("n10", "a1"):
        assert dwctl("worker", "list", "--node", told).out.splitlines()[1:] == ["n10\tblocks.gc\tidle\t0\t2\t-"]
    refused = dwctl("worker", "list", "--node", "n3")
    assert (refused.code, "dwctl node list" in refused.err) == (3, True)


def object_reply(data: bytes, etag: str, *, size: int | None = None) -> list[pb.GetObjectReply]:
    head = pb.Object(bucket="b", key="k", size=len(data) if size is None else size, etag=etag)
    return [pb.GetObjectReply(head=head), *(pb.GetObjectReply(chunk=data[i : i + 3]) for i in range(0, len(data), 3))]


def test_object_is_written_only_once_it_arrived_whole(dwctl: Dwctl, node: Node, tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    for wrong in (object_reply(b"hello", "0" * 32), object_reply(b"hello", "x-2", size=6)):
        node.answers["GetObject"] = wrong
        assert dwctl("object", "get", "b", "k", str(target)).code == 1
        assert target.read_bytes() == b"old"
    node.answers["GetObject"] = object_reply(b"hello", "5d41402abc4b2a76b9719d911017c592")
    assert dwctl("object", "get", "b", "k", str(target)).code == 0
    assert target.read_bytes() == b"hello"
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []


def test_object_list_asks_page_by_page_up_to_its_limit(dwctl: Dwctl, node: Node) -> None:
    node.answers["ListObjects"] = pb.ListObjectsReply(
        objects=[pb.Object(key="k", size=1)], prefixes=["p/"], truncated=True, next_after="p/"
    )
    ran = dwctl("object", "list", "b", "--limit", "4")
    assert [request.limit for _, request in node.asked] == [4, 2]
    assert [request.after for _, request in node.asked] == ["", "p/"]
    assert "raise --limit" in ran.err
    assert len(ran.out.splitlines()) == 5


def test_missing_things_exit_3(dwctl: Dwctl, node: Node) -> None:
    node.answers["DeleteObject"] = pb.DeleteObjectReply(existed=False)
    assert dwctl("object", "delete", "b", "k").code == 3
    assert dwctl("object", "put", "b", "k", "/no/such/file").code == 3


def test_heavy_modules_are_imported_only_by_commands_that_need_them() -> None:
    heavy = ("grpc", "google.protobuf", "rich", "http.client", "asyncio", "cryptography", "pydantic")
    code = f"import sys, dwctl.main; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
