"""dwctl run in this process, with a home of its own and a node that answers what the test says."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dwctl import session
from dwctl.main import main
from dwd.pb.admin.v1 import admin_pb2, consensus_pb2, devices_pb2, jobs_pb2, layout_pb2, profiles_pb2


@dataclass
class Node:
    """`answers`: by method, a message, an exception, or the messages of a stream. `asked`: every request."""

    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)

    pb = admin_pb2
    raft_pb = consensus_pb2
    layout_pb = layout_pb2
    profiles_pb = profiles_pb2
    jobs_pb = jobs_pb2
    devices_pb = devices_pb2

    cluster = None  # nothing to learn into

    @property
    def stub(self) -> Node:
        return self

    @property
    def raft(self) -> Node:
        return self

    @property
    def layouts(self) -> Node:
        return self

    @property
    def profiles(self) -> Node:
        return self

    @property
    def devices(self) -> Node:
        return self

    @property
    def jobs(self) -> Node:
        return self

    def __getattr__(self, name: str) -> str:
        if name.startswith("_"):
            raise AttributeError(name)
        return name

    def ask(self, method: str, request: Any, **_options: object) -> Any:
        self.asked.append((method, request))
        answer = self.answers[method]
        if isinstance(answer, Exception):
            raise answer
        return answer

    change = ask

    def stream(self, method: str, request: Any, **_options: object) -> Iterator[Any]:
        yield from self.ask(method, request)


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        return json.loads(self.out)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("DWCTL_CLUSTER", raising=False)
    return tmp_path / "config"


@pytest.fixture
def dwctl(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    def run(*arguments: str) -> Ran:
        monkeypatch.setattr(sys, "argv", ["dwctl", *arguments])
        try:
            main()
            code: Any = 0
        except SystemExit as ended:
            code = ended.code or 0
        said = capfd.readouterr()
        return Ran(int(code), said.out, said.err)

    return run


@pytest.fixture
def cluster(tmp_path: Path) -> Path:
    """A cluster.json."""
    path = tmp_path / "lab" / "cluster.json"
    path.parent.mkdir()
    nodes = [{"id": "00000000000000a1", "name": "n1", "grpc": "127.0.0.1:1"}]
    operator = {"authority": "a.pem", "certificate": "o.pem", "key": "o.key"}
    path.write_text(json.dumps({"nodes": nodes, "operator": operator}))
    return path


@pytest.fixture
def node(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    """Answers for the current cluster."""
    made = Node()

    @contextmanager
    def connected(_cluster: object) -> Iterator[Node]:
        yield made

    monkeypatch.setattr(session, "connected", connected)
    monkeypatch.setenv("DWCTL_CLUSTER", str(cluster))
    return made
