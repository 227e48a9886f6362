"""obstore: the Rust object_store crate, as delta-rs and DataFusion use it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import obstore
import pytest
from obstore.store import S3Store

from tests.s3.conftest import client
from tests.twins.gateway import ACCESS_KEY, SECRET_KEY, gateway_in_thread

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def store() -> Iterator[S3Store]:
    with gateway_in_thread() as port:
        endpoint = f"http://127.0.0.1:{port}"
        client(endpoint).create_bucket(Bucket="bkt")
        yield S3Store(
            "bkt",
            endpoint=endpoint,
            region="us-east-1",
            access_key_id=ACCESS_KEY,
            secret_access_key=SECRET_KEY,
            client_options={"allow_http": True},
        )


def test_object_and_ranges_come_back(store: S3Store) -> None:
    data = os.urandom(6 * MIB)
    obstore.put(store, "whole", data, use_multipart=False)
    assert obstore.get(store, "whole").bytes().to_bytes() == data
    ranges = obstore.get_ranges(store, "whole", starts=[0, 5 * MIB], ends=[10, 5 * MIB + 10])
    assert [one.to_bytes() for one in ranges] == [data[:10], data[5 * MIB : 5 * MIB + 10]]


def test_parts_become_one_object(store: S3Store) -> None:
    data = os.urandom(12 * MIB)
    obstore.put(store, "parts", data, use_multipart=True, chunk_size=5 * MIB)
    assert obstore.get(store, "parts").bytes().to_bytes() == data


def test_put_is_refused_when_it_must_create_and_the_key_is_there(store: S3Store) -> None:
    obstore.put(store, "once", b"1", mode="create")
    with pytest.raises(obstore.exceptions.AlreadyExistsError):
        obstore.put(store, "once", b"2", mode="create")


def test_keys_are_listed_copied_and_deleted(store: S3Store) -> None:
    keys = [f"d/k{number}" for number in range(5)]
    for key in keys:
        obstore.put(store, key, b"x")
    obstore.copy(store, "d/k0", "d/k9")
    assert sorted(one["path"] for page in obstore.list(store, "d") for one in page) == [*keys, "d/k9"]
    assert obstore.list_with_delimiter(store)["common_prefixes"] == ["d"]
    obstore.delete(store, [*keys, "d/k9"])
    assert [one for page in obstore.list(store, "d") for one in page] == []
