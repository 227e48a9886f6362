"""Command-line clients against six real daemons, as people run them: whole trees, large files, a node lost."""

from __future__ import annotations

import filecmp
import hashlib
import os
from pathlib import Path

import pytest

from tests.s3.clients import Clients, program, run
from tests.s3.trees import same_trees

pytestmark = pytest.mark.integration
MIB = 1024 * 1024
LARGE_BYTES = 200 * MIB
NAMES = (
    ("plain.txt", 5), ("empty", 0), ("with space/and more.bin", 70_000), ("plus+and%41&=#.bin", 17_000),
    ("ü/日本語 😀.bin", 20_000), ("deep/er/and/deeper/x", 1), ("multipart.bin", 20 * MIB),
    ("just over.bin", 8 * MIB + 1),
)  # fmt: skip


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty files: empty ones, small ones, odd names, some large enough for multipart."""
    root = tmp_path_factory.mktemp("tree")
    for name, size in (*NAMES, *((f"many/f{number:02}", 1_000 * number) for number in range(52))):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))
    return root


@pytest.fixture
def bucket(clients: Clients, request: pytest.FixtureRequest) -> str:
    name = f"b-{hashlib.sha256(request.node.name.encode()).hexdigest()[:16]}"
    clients.boto3.create_bucket(Bucket=name)
    return name


@pytest.mark.campaign
def test_aws_copies_syncs_moves_and_removes_a_tree(clients: Clients, bucket: str, tree: Path, tmp_path: Path) -> None:
    clients.aws("s3", "cp", "--recursive", "--quiet", str(tree), f"s3://{bucket}/t")
    # Local files are older than their objects: there is nothing to do.
    assert "upload" not in clients.aws("s3", "sync", str(tree), f"s3://{bucket}/t")
    clients.aws("s3", "sync", "--quiet", f"s3://{bucket}/t", f"s3://{bucket}/u")
    clients.aws("s3", "sync", "--quiet", f"s3://{bucket}/u", str(tmp_path / "synced"))
    same_trees(tree, tmp_path / "synced")
    clients.aws("s3", "mv", f"s3://{bucket}/u/multipart.bin", f"s3://{bucket}/moved")
    clients.aws("s3", "cp", f"s3://{bucket}/moved", str(tmp_path / "moved"))
    assert filecmp.cmp(tree / "multipart.bin", tmp_path / "moved", shallow=False)
    assert "multipart.bin" not in clients.aws("s3", "ls", f"s3://{bucket}/u/")
    clients.aws("s3", "rm", "--recursive", "--quiet", f"s3://{bucket}")
    assert not clients.aws("s3", "ls", "--recursive", f"s3://{bucket}")


def test_rclone_copies_and_checks_a_tree(clients: Clients, bucket: str, tree: Path, tmp_path: Path) -> None:
    small_parts = ("--s3-upload-cutoff", "6M", "--s3-chunk-size", "5M")
    clients.rclone("copy", *small_parts, str(tree), f"dwd:{bucket}/t")
    clients.rclone("check", str(tree), f"dwd:{bucket}/t")
    clients.rclone("check", "--download", str(tree), f"dwd:{bucket}/t")
    clients.rclone("copy", f"dwd:{bucket}/t", str(tmp_path / "down"))
    same_trees(tree, tmp_path / "down")
    clients.rclone("sync", f"dwd:{bucket}/t", f"dwd:{bucket}/u")
    clients.rclone("check", "--download", f"dwd:{bucket}/t", f"dwd:{bucket}/u")
    clients.rclone("purge", f"dwd:{bucket}")


def test_curl_uses_presigned_urls(clients: Clients, bucket: str, tree: Path, tmp_path: Path) -> None:
    curl, source = program("curl"), tree / "multipart.bin"
    s3 = clients.boto3_at(clients.endpoint, signature_version="s3v4")

    def url(verb: str) -> str:
        return str(s3.generate_presigned_url(verb, Params={"Bucket": bucket, "Key": "a b/ü+c"}, ExpiresIn=60))

    run(curl, "-sSf", "-H", "Expect: 100-continue", "-T", str(source), url("put_object"))
    run(curl, "-sSf", "-o", str(tmp_path / "whole"), url("get_object"))
    assert filecmp.cmp(source, tmp_path / "whole", shallow=False)
    run(curl, "-sSf", "-r", "5000000-5000999", "-o", str(tmp_path / "range"), url("get_object"))
    assert (tmp_path / "range").read_bytes() == source.read_bytes()[5_000_000:5_001_000]


@pytest.mark.campaign
def test_s3cmd_gets_back_what_it_put_when_a_node_was_killed_in_between(
    clients: Clients, bucket: str, tree: Path, tmp_path: Path
) -> None:
    large = tmp_path / "large"
    large.write_bytes(os.urandom(4 * MIB) * (LARGE_BYTES // (4 * MIB)))
    clients.s3cmd("put", "--quiet", str(large), f"s3://{bucket}/large")
    victim, other = clients.cluster.names[0], clients.s3["endpoints"][1]
    clients.cluster.act("kill", victim)
    try:
        clients.s3cmd("get", "--quiet", f"s3://{bucket}/large", str(tmp_path / "back"), endpoint=other)
        assert filecmp.cmp(large, tmp_path / "back", shallow=False)
        clients.aws("s3", "cp", "--quiet", str(tree / "multipart.bin"), f"s3://{bucket}/new", endpoint=other)
        clients.s3cmd("get", "--quiet", f"s3://{bucket}/new", str(tmp_path / "new"), endpoint=other)
        assert filecmp.cmp(tree / "multipart.bin", tmp_path / "new", shallow=False)
    finally:
        clients.cluster.act("start", victim)
