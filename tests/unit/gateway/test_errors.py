"""The table from errors to S3."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import dwd.gateway
import dwd.objects
from dwd.base import errors
from dwd.base.errors import KINDS, DwError
from dwd.gateway.errors import BY_CODE, error_document, error_headers, s3_error

CODE = re.compile(r'"(s3\.[a-z0-9_]+)"')


def test_every_code_the_gateway_raises_is_in_the_table() -> None:
    root = Path(dwd.gateway.__file__).parent
    raised = {code for path in root.rglob("*.py") for code in CODE.findall(path.read_text())}
    assert raised == {code for code in BY_CODE if code.startswith("s3.")}


def test_every_code_the_object_api_names_is_in_the_table() -> None:
    text = (Path(dwd.objects.__file__).parent / "ports.py").read_text()
    named = set(re.findall(r"objects\.[a-z_]+", text)) - {"objects.ports", "objects.encryption", "objects.core"}
    assert named <= BY_CODE.keys()
    assert len(named) > 8


@pytest.mark.parametrize("kind", KINDS.values())
def test_every_kind_has_an_answer(kind: type[DwError]) -> None:
    answer = s3_error(kind("other.code", "inner detail of node 7"))
    assert 400 <= answer.status <= 503
    expected = {errors.Busy: "SlowDown", errors.NotLeader: "ServiceUnavailable", errors.Corrupt: "InternalError"}
    assert answer.code == expected.get(kind, answer.code)


def test_inner_detail_stays_inside_when_the_error_is_not_the_clients() -> None:
    error = errors.Unavailable("raft.no_leader", "group 3 lost node 7", node=7)
    document = error_document(error, s3_error(error), resource="/b/<k>", request_id="R")
    assert b"node 7" not in document
    assert b"Node" not in document
    assert b"<Resource>/b/&lt;k&gt;</Resource><RequestId>R</RequestId>" in document


def test_fields_become_elements_when_the_error_is_the_clients() -> None:
    error = errors.InvalidArgument("objects.key_too_long", "Your key is too long.", size=2_000, max_size_allowed=1_024)
    document = error_document(error, s3_error(error), resource="/b/k", request_id="R")
    assert b"<Code>KeyTooLongError</Code>" in document
    assert b"<MaxSizeAllowed>1024</MaxSizeAllowed>" in document


def test_headers_follow_the_status() -> None:
    busy = errors.Busy("x.y", "")
    assert error_headers(busy, s3_error(busy)) == {"Retry-After": "1"}
    ranged = errors.InvalidArgument("objects.range_not_satisfiable", "", size=5)
    assert error_headers(ranged, s3_error(ranged)) == {"Content-Range": "bytes */5"}
