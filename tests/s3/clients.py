"""S3 clients as people call them, pointed at a running cluster."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from obstore.store import S3Store

from tests.integration.harness import Cluster

SCRIPTS = Path(sys.executable).parent
COMMAND_SECONDS = 180


@dataclass(frozen=True, kw_only=True)
class Clients:
    """Clients of `cluster`; they talk to its first node unless an endpoint is given."""

    cluster: Cluster

    @property
    def s3(self) -> dict[str, Any]:
        """Endpoints, keys and region."""
        found: dict[str, Any] = self.cluster.document["s3"]
        return found

    @property
    def endpoint(self) -> str:
        return str(self.s3["endpoint"])

    @cached_property
    def boto3(self) -> Any:
        return self.boto3_at(self.endpoint)

    def boto3_at(self, endpoint: str, **settings: Any) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name=self.s3["region"],
            aws_access_key_id=self.s3["access_key"],
            aws_secret_access_key=self.s3["secret_key"],
            config=Config(**{"retries": {"max_attempts": 4, "mode": "standard"}, **settings}),
        )

    def obstore(self, bucket: str) -> S3Store:
        """For many small requests at little cost."""
        return S3Store(
            bucket, endpoint=self.endpoint, region=self.s3["region"], access_key_id=self.s3["access_key"],
            secret_access_key=self.s3["secret_key"], client_options={"allow_http": True},
        )  # fmt: skip

    def aws(self, *words: str, endpoint: str = "") -> str:
        return run(
            program("aws"), "--endpoint-url", endpoint or self.endpoint, *words,
            AWS_ACCESS_KEY_ID=self.s3["access_key"], AWS_SECRET_ACCESS_KEY=self.s3["secret_key"],
            AWS_DEFAULT_REGION=self.s3["region"],
        )  # fmt: skip

    def s3cmd(self, *words: str, endpoint: str = "") -> str:
        host = urlsplit(endpoint or self.endpoint).netloc
        return run(
            program("s3cmd"), "--config", os.devnull, "--access_key", self.s3["access_key"], "--secret_key",
            self.s3["secret_key"], "--host", host, "--host-bucket", host, "--no-ssl", *words,
        )  # fmt: skip

    def rclone(self, *words: str, endpoint: str = "") -> str:
        """In `words` the cluster is the remote `dwd:`."""
        settings = {
            "TYPE": "s3", "PROVIDER": "Other", "ENDPOINT": endpoint or self.endpoint, "REGION": self.s3["region"],
            "ACCESS_KEY_ID": self.s3["access_key"], "SECRET_ACCESS_KEY": self.s3["secret_key"],
        }  # fmt: skip
        environment = {f"RCLONE_CONFIG_DWD_{name}": value for name, value in settings.items()}
        return run(program("rclone"), *words, RCLONE_CONFIG=os.devnull, **environment)


def program(name: str) -> str:
    """Where a client is. Skips the test when it is really not there."""
    found = shutil.which(name, path=f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"{name} is not installed (on Debian: apt-get install {name})")
    return found


def run(*words: str, **environment: str) -> str:
    """What a command printed. Fails the test, with both streams, when it did not exit 0."""
    done = subprocess.run(
        words, env={"PATH": os.environ["PATH"], "HOME": "/nonexistent", **environment}, capture_output=True, text=True,
        timeout=COMMAND_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{' '.join(words)}: exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout
