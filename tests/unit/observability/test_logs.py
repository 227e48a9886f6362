"""What reaches the log, in which form, and what never does."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from dwd.observability import logs, metrics
from dwd.observability.logs import REDACTED, Level


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Full(io.StringIO):
    def write(self, _text: str) -> int:
        raise OSError(28, "No space left on device")


@pytest.fixture(autouse=True)
def _undone() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)


def written(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_line_is_json_with_logger_level_time_and_node_when_not_a_terminal() -> None:
    stream = io.StringIO()
    logs.configure(node="00000000000000a1", stream=stream)
    structlog.get_logger("dwd.raft").info("elected", group=1, term=4)
    (line,) = written(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "elected", "logger": "dwd.raft", "level": "info", "node": "00000000000000a1", "group": 1, "term": 4,
    }  # fmt: skip


def test_node_is_the_configured_one_when_a_line_brings_another() -> None:
    stream = io.StringIO()
    logs.configure(node="n1", stream=stream)
    structlog.get_logger("dwd.raft").info("elected", node=42)
    assert written(stream)[0]["node"] == "n1"


def test_line_is_text_when_on_a_terminal() -> None:
    stream = Terminal()
    logs.configure(stream=stream)
    structlog.get_logger("dwd.raft").info("elected", group=1)
    assert "elected" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_form_is_the_one_asked_for_when_set() -> None:
    terminal, pipe = Terminal(), io.StringIO()
    logs.configure(stream=terminal, as_json=True)
    structlog.get_logger("dwd.raft").info("elected")
    logs.configure(stream=pipe, as_json=False)
    structlog.get_logger("dwd.raft").info("elected", group=1)
    assert written(terminal)[0]["event"] == "elected"
    assert "elected" in pipe.getvalue()
    assert "\x1b" not in pipe.getvalue()


def test_context_is_in_every_line_when_bound() -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    with structlog.contextvars.bound_contextvars(request_id="r-1", group=2):
        structlog.get_logger("dwd.gateway").info("put")
    structlog.get_logger("dwd.gateway").info("after")
    inside, outside = written(stream)
    assert (inside["request_id"], inside["group"]) == ("r-1", 2)
    assert "request_id" not in outside


def test_lines_below_the_level_are_not_written() -> None:
    stream = io.StringIO()
    logs.configure(level=Level.WARNING, stream=stream)
    log = structlog.get_logger("dwd.raft")
    log.info("quiet")
    log.warning("loud")
    assert [line["event"] for line in written(stream)] == ["loud"]


@pytest.mark.parametrize(
    "key",
    [
        "secret", "secret_key", "secret_access_key", "password", "join_token", "token", "Authorization", "private_key",
        "x-amz-security-token", "x_amz_signature", "cookie", "credentials", "passphrase", "key_material",
        "sse_customer_key", "Set-Cookie", "secrets", "token_hex",
    ],
)  # fmt: skip
def test_value_is_redacted_when_its_key_says_secret(key: str) -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    structlog.get_logger("dwd.gateway").info("request", **{key: "hunter2"}, headers={"a": [{key: "hunter2"}]})
    assert "hunter2" not in stream.getvalue()
    assert written(stream)[0][key] == REDACTED


@pytest.mark.parametrize("key", ["access_key", "key", "bucket", "token_count", "keys", "secretary", "tokens_left"])
def test_value_is_kept_when_its_key_only_resembles_a_secret(key: str) -> None:
    stream = io.StringIO()
    logs.configure(stream=stream)
    structlog.get_logger("dwd.gateway").info("request", **{key: "plain"})
    assert written(stream)[0][key] == "plain"


def test_value_is_redacted_when_nested_too_deep_to_look() -> None:
    deep: object = {"password": "hunter2"}
    for _ in range(20):
        deep = {"inner": deep}
    stream = io.StringIO()
    logs.configure(stream=stream)
    structlog.get_logger("dwd.gateway").info("request", body=deep)
    assert "hunter2" not in stream.getvalue()


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["json", "terminal"])
def test_traceback_shows_no_local_variables_when_an_error_is_logged(stream: io.StringIO) -> None:
    logs.configure(stream=stream)
    disguised = "hunter" + str(2)
    try:
        {}["lost"]
    except KeyError:
        structlog.get_logger("dwd.meta").exception("failed")
    assert "KeyError" in stream.getvalue()
    assert disguised not in stream.getvalue()


def test_line_is_one_line_and_parses_when_values_are_hostile() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    logs.configure(stream=stream)
    hostile = 'a\n{"event":"forged"}\x1b[2J\udcff'
    structlog.get_logger("dwd.gateway").info("put", object_key=hostile, digest=b"\x00\xff", other={1, 2}.__class__)
    stream.seek(0)
    (line,) = [json.loads(text) for text in stream.read().splitlines()]
    assert line["event"] == "put"
    assert line["object_key"] == hostile
    assert line["digest"] == "00ff"


def test_libraries_write_in_the_same_form_when_they_use_standard_logging() -> None:
    stream = io.StringIO()
    logs.configure(node="a1", stream=stream)
    logging.getLogger("asyncio").error("Task exception was never retrieved: %s", "x")
    logging.getLogger("aiohttp.access").info("GET /")
    (line,) = written(stream)
    assert (line["logger"], line["level"], line["node"]) == ("asyncio", "error", "a1")
    assert line["event"] == "Task exception was never retrieved: x"


def test_daemon_goes_on_and_counts_when_lines_cannot_be_written() -> None:
    (dropped,) = [found for found in metrics.instruments() if found.name == "dwd.logs.dropped"]
    assert isinstance(dropped, metrics.Counter)
    before = dropped.values().get((), 0)
    logs.configure(stream=Full())
    structlog.get_logger("dwd.raft").info("elected")
    logging.getLogger("grpc").error("boom")
    closed = io.StringIO()
    logs.configure(stream=closed)
    closed.close()
    structlog.get_logger("dwd.raft").info("elected")
    assert dropped.values()[()] - before == 3
