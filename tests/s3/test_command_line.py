"""aws, s3cmd and curl as people run them."""

from __future__ import annotations

import filecmp
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.s3.clients import program, run
from tests.s3.conftest import client
from tests.s3.trees import same_trees
from tests.twins.gateway import ACCESS_KEY, SECRET_KEY, gateway_in_thread

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with gateway_in_thread() as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    for name, size in (("a.txt", 5), ("b/c d.bin", 70_000), ("b/ü+&.bin", 0), ("b/e/big.bin", 20 * MIB)):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))
    return root


def test_aws_copies_and_syncs_a_tree(endpoint: str, tree: Path, tmp_path: Path) -> None:
    command = program("aws")

    def aws(*words: str) -> str:
        return run(
            command, "--endpoint-url", endpoint, *words, AWS_ACCESS_KEY_ID=ACCESS_KEY, AWS_SECRET_ACCESS_KEY=SECRET_KEY,
            AWS_DEFAULT_REGION="us-east-1",
        )  # fmt: skip

    aws("s3", "mb", "s3://aws-bkt")
    aws("s3", "cp", "--recursive", str(tree), "s3://aws-bkt/t")
    aws("s3", "sync", "s3://aws-bkt/t", str(tmp_path / "down"))
    same_trees(tree, tmp_path / "down")
    assert "upload" not in aws("s3", "sync", "--size-only", str(tree), "s3://aws-bkt/t")
    aws("s3", "mv", "s3://aws-bkt/t/a.txt", "s3://aws-bkt/moved.txt")
    assert "moved.txt" in aws("s3", "ls", "s3://aws-bkt/")
    aws("s3", "rb", "--force", "s3://aws-bkt")


def test_s3cmd_puts_in_parts_and_gets(endpoint: str, tree: Path, tmp_path: Path) -> None:
    command = program("s3cmd")
    host = endpoint.removeprefix("http://")
    settings = tmp_path / "s3cfg"
    settings.write_text(
        f"[default]\naccess_key = {ACCESS_KEY}\nsecret_key = {SECRET_KEY}\nhost_base = {host}\nhost_bucket = {host}\n"
        "use_https = False\nmultipart_chunk_size_mb = 5\n"
    )

    def s3cmd(*words: str) -> str:
        return run(command, "--config", str(settings), *words)

    s3cmd("mb", "s3://cmd-bkt")
    big = tree / "b/e/big.bin"
    s3cmd("put", str(big), "s3://cmd-bkt/big.bin")
    s3cmd("get", "s3://cmd-bkt/big.bin", str(tmp_path / "big"))
    assert filecmp.cmp(big, tmp_path / "big", shallow=False)
    s3cmd("sync", f"{tree}/", "s3://cmd-bkt/t/")
    s3cmd("sync", "s3://cmd-bkt/t/", f"{tmp_path / 'down'}/")
    same_trees(tree, tmp_path / "down")
    assert "big.bin" in s3cmd("ls", "s3://cmd-bkt/")
    assert "ACL" in s3cmd("info", "s3://cmd-bkt/big.bin")
    s3cmd("info", "s3://cmd-bkt")
    s3cmd("cp", "s3://cmd-bkt/big.bin", "s3://cmd-bkt/copy")
    s3cmd("rb", "--recursive", "--force", "s3://cmd-bkt")


def test_curl_gets_and_puts_by_presigned_url(endpoint: str, tmp_path: Path) -> None:
    command = program("curl")
    s3 = client(endpoint, signature_version="s3v4")
    s3.create_bucket(Bucket="curl-bkt")
    source, target = tmp_path / "up", tmp_path / "down"
    source.write_bytes(os.urandom(3 * MIB))
    put = s3.generate_presigned_url("put_object", Params={"Bucket": "curl-bkt", "Key": "k"})
    run(command, "-sSf", "-H", "Expect: 100-continue", "-T", str(source), put)
    run(
        command,
        "-sSf",
        "-o",
        str(target),
        s3.generate_presigned_url("get_object", Params={"Bucket": "curl-bkt", "Key": "k"}),
    )
    assert filecmp.cmp(source, target, shallow=False)


def test_rclone_copies_and_checks(endpoint: str, tree: Path) -> None:
    command = program("rclone")
    remote = (
        f":s3,provider=Other,endpoint='{endpoint}',access_key_id={ACCESS_KEY},secret_access_key='{SECRET_KEY}':rc-bkt"
    )
    run(command, "copy", str(tree), remote)
    run(command, "check", str(tree), remote)
