"""One gateway for all clients of a module, on a loop of its own; clients of the shared cluster of real daemons."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config

from dwd.gateway.options import GatewayOptions
from tests.integration.harness import Cluster
from tests.s3.certificate import self_signed
from tests.s3.clients import Clients
from tests.twins.gateway import ACCESS_KEY, SECRET_KEY, gateway_in_thread


@pytest.fixture(scope="module")
def clients(six: Cluster) -> Iterator[Clients]:
    """Of the shared cluster; after a module of tests it must be healthy and whole."""
    yield Clients(cluster=six)
    six.wait_healthy()
    six.wait_whole()


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with gateway_in_thread() as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """(endpoint, certificate): over TLS clients choose other ways to send bodies."""
    certificate, key = self_signed(tmp_path_factory.mktemp("tls"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with gateway_in_thread(GatewayOptions(port=0, tls=context)) as port:
        yield f"https://127.0.0.1:{port}", certificate


def client(endpoint: str, **settings: Any) -> Any:
    verify = settings.pop("verify", None)
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        verify=verify,
        config=Config(retries={"max_attempts": 0}, **settings),
    )


@pytest.fixture(scope="module")
def s3(endpoint: str) -> Any:
    made = client(endpoint)
    made.create_bucket(Bucket="bkt")
    return made
