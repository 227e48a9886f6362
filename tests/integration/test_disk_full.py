"""A disk that fills up, as a small file system of its own: a clear refusal, everything else goes on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from tests.integration.clients import client_at, content
from tests.integration.harness import until
from tests.integration.install import Node

MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """96 MiB of memory as a mounted disk; only root may mount."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", str(disk)], check=False)
    if mounted.returncode != 0:
        pytest.skip("file systems cannot be mounted here")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_writes_are_refused_and_the_rest_goes_on_when_the_device_is_full(small_disk: Path, tmp_path: Path) -> None:
    node = Node(tmp_path / "a", extra=f'[[device]]\npath = "{small_disk}"\n')
    node.init()
    with node.daemon() as daemon:
        node.wait_ready(daemon)
        s3 = client_at(node.s3_settings(), f"http://{node.s3}")
        until("the device takes data", lambda: node.dwctl("bucket", "create", "full").code in {0, 8})
        stored: list[str] = []
        refusal: ClientError | None = None
        while refusal is None and len(stored) < 200:
            key = f"k{len(stored):03d}"
            try:
                s3.put_object(Bucket="full", Key=key, Body=content(key, MIB))
                stored.append(key)
            except ClientError as error:
                refusal = error
        assert refusal is not None, "the disk never filled up"
        assert refusal.response["ResponseMetadata"]["HTTPStatusCode"] in {503, 507}
        assert len(stored) > 20
        for key in stored:
            assert s3.get_object(Bucket="full", Key=key)["Body"].read() == content(key, MIB)
        s3.put_object(Bucket="full", Key="inline", Body=b"metadata has a disk of its own")
        for key in stored[: len(stored) // 2]:
            s3.delete_object(Bucket="full", Key=key)
        kept = stored[len(stored) // 2 :]
        assert [o["Key"] for o in s3.list_objects_v2(Bucket="full")["Contents"]] == ["inline", *kept]
        assert daemon.process.poll() is None
        assert daemon.end() == 0
    with node.daemon() as daemon:
        node.wait_ready(daemon)
        for key in kept:
            assert s3.get_object(Bucket="full", Key=key)["Body"].read() == content(key, MIB)
        assert daemon.end() == 0
