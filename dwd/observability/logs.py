"""Logs: one event a line on stderr, JSON when a machine reads it and coloured text on a terminal.

Shells call `structlog.get_logger("dwd.<package>")` and log events with fields: `log.info("elected", group=1, term=4)`.
`node` always is this node, by its configured name: another node is `peer=hex_id(node)`, or is called by its role.
Context that many lines share (request_id, group, term) is bound with `structlog.contextvars.bound_contextvars`.
Lines of libraries that use the standard library's logging come out in the same form.

Invariant: the value of a field whose name says that it is a secret never reaches the output, at any depth; nor do the
local variables of a traceback.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Mapping, MutableMapping
from enum import Enum
from threading import Lock
from typing import Any, TextIO

import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, Processor, WrappedLogger

from dwd.observability import metrics

REDACTED = "[redacted]"
REDACT_DEPTH_MAX = 6
"""Nested deeper than this a value is replaced as a whole."""

_SECRET = re.compile(
    r"(^|[_\-.])(secret|password|passphrase|passwd|token|authorization|signature|cookie|credentials?|private[_\-]?key"
    r"|secret[_\-]?(access[_\-]?)?key|key[_\-]?material|customer[_\-]?key)s?([_\-.](key|value|hex|bytes))?$",
    re.IGNORECASE,
)
_DROPPED = metrics.counter("dwd.logs.dropped", "Log lines that could not be written", "{line}")


class Level(Enum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def number(self) -> int:
        return logging.getLevelNamesMapping()[self.name]


def configure(
    *, level: Level = Level.INFO, node: str = "", stream: TextIO | None = None, as_json: bool | None = None
) -> None:
    """Set up logging for the process, once, before anything is logged. `node` stands in every line unless empty;
    `as_json` None: JSON unless the stream is a terminal.
    """
    target = stream if stream is not None else sys.stderr
    terminal = target.isatty()
    render = _json() if as_json or (as_json is None and not terminal) else _console(colors=terminal)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        *([_stamp_node(node)] if node else []),
        redact,
    ]
    structlog.configure(
        processors=[*shared[:2], _name, *shared[2:], *render],
        wrapper_class=structlog.make_filtering_bound_logger(level.number),
        logger_factory=lambda *arguments: _Line(target, str(arguments[0]) if arguments else "dwd"),
        cache_logger_on_first_use=True,
    )
    _adopt_standard_logging(target, shared, render, max(level.number, logging.WARNING))


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace the values of secret-bearing keys."""
    for key, value in event.items():
        event[key] = _redacted(key, value, 0)
    return event


def _redacted(key: object, value: object, depth: int) -> object:
    if isinstance(key, str) and _SECRET.search(key) is not None:
        return REDACTED
    if isinstance(value, Mapping | list | tuple) and depth >= REDACT_DEPTH_MAX:
        return REDACTED
    if isinstance(value, Mapping):
        return {name: _redacted(name, inner, depth + 1) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_redacted("", inner, depth + 1) for inner in value]
    return value


class _Line:
    """Writes finished lines. A full disk or a closed pipe loses lines and counts them, and never stops the daemon."""

    def __init__(self, stream: TextIO, name: str) -> None:
        self.name = name
        self._stream = stream

    def msg(self, line: str) -> None:
        try:
            with _writing:
                self._stream.write(line + "\n")
                self._stream.flush()
        except (OSError, ValueError):
            _DROPPED.add()

    debug = info = warning = error = critical = msg


_writing = Lock()


class _StandardLines(logging.Handler):
    """The standard library's records, written like ours."""

    def __init__(self, line: _Line) -> None:
        super().__init__()
        self._line = line

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._line.msg(self.format(record))
        except Exception:  # noqa: BLE001 - a library's malformed log call must not reach the code that made it
            _DROPPED.add()


def _adopt_standard_logging(target: TextIO, shared: list[Processor], render: list[Processor], level: int) -> None:
    handler = _StandardLines(_Line(target, "root"))
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(capture=True)


def _name(logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    event["logger"] = getattr(logger, "name", "dwd")
    return event


def _stamp_node(node: str) -> Processor:
    def stamp(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        event["node"] = node
        return event

    return stamp


def _json() -> list[Processor]:
    exceptions = structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
    return [exceptions, structlog.processors.JSONRenderer(serializer=_dumps)]


def _console(*, colors: bool) -> list[Processor]:
    return [structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=structlog.dev.plain_traceback)]


def _dumps(event: MutableMapping[str, Any], **_options: object) -> str:
    return json.dumps(event, default=_plain, separators=(",", ":"))


def _plain(value: object) -> str:
    return value.hex() if isinstance(value, bytes | bytearray) else str(value)
