"""Faults on order, for tests on development clusters: `dwd run --faults FILE`, hidden, refused outside of loopback.

FILE is JSON and is read again whenever it changes; all nodes of a cluster may share it. Every key may be absent:

    {"cut":      [[SOURCE, TARGET], ...]            nothing passes from node SOURCE to node TARGET
     "delay_ms": [[SOURCE, TARGET, MILLISECONDS]]   it passes later
     "clock_ms": {NODE: MILLISECONDS}               the node's wall clock is so far ahead (or, negative, behind)
     "full":     [NODE, ...]                        the node's files cannot grow
     "slow_ms":  {NODE: MILLISECONDS}}              the node's devices answer so much later

Nodes are named by their ids in hex. A write in progress is never seen: replace the file by renaming.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog

from dwd.base.clock import Clock
from dwd.base.errors import InvalidArgument
from dwd.base.ids import NodeId, parse_hex_id
from dwd.blocks.service import LocalFragments
from dwd.blocks.testing_slow import SlowFragments
from dwd.config.settings import Settings
from dwd.node.disk import Disk
from dwd.rpc.channels import Directory
from dwd.rpc.testing_relay import Link, Relay
from dwd.runtime.testing_clock import SkewedClock
from dwd.runtime.testing_files import FaultyFiles

POLL_SECONDS = 0.02
_log = structlog.get_logger("dwd.node")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What FILE says."""

    cut: frozenset[Link] = frozenset()
    delay_ms: Mapping[Link, float] = field(default_factory=dict)
    clock_ms: Mapping[NodeId, int] = field(default_factory=dict)
    full: frozenset[NodeId] = frozenset()
    slow_ms: Mapping[NodeId, float] = field(default_factory=dict)


class Faults:
    """The faults of one daemon. `be` says which node this is; until then only other nodes are concerned."""

    def __init__(self, path: Path, settings: Settings, clock: Clock) -> None:
        """Raises InvalidArgument on a node that others could reach, and for a FILE that makes no sense."""
        listeners = (settings.listen.grpc, settings.listen.s3, settings.listen.admin, settings.advertise)
        if not all(address.is_loopback for address in listeners):
            raise InvalidArgument(
                "node.faults_refused",
                "faults are for development clusters: this node listens beyond loopback",
                hint="leave --faults out",
            )
        self.clock = SkewedClock(clock)
        self._path = path
        self._node: NodeId | None = None
        self._files: FaultyFiles | None = None
        self._seen = _version(path)
        self._rules = load_rules(path)

    def on(self, disk: Disk) -> Disk:
        """The disk, with files that can be told to be full."""
        self._files = FaultyFiles(disk.files)
        return replace(disk, files=self._files)

    def be(self, node: NodeId) -> None:
        self._node = node
        _log.warning("faults are injected here: this is a test", rules=str(self._path))
        self._obey()

    def relay(self, own: NodeId, directory: Directory) -> Relay:
        return Relay(
            own,
            directory,
            is_cut=lambda source, target: (source, target) in self._rules.cut,
            delay_seconds=lambda source, target: self._rules.delay_ms.get((source, target), 0.0) / 1000,
        )

    def fragments(self) -> LocalFragments:
        """The node's devices, which can be told to be slow."""
        return SlowFragments(self.clock, lambda: self._rules.slow_ms.get(self._node or NodeId(0), 0.0) / 1000)

    async def run(self) -> None:
        """Until cancelled: follow FILE."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            version = _version(self._path)
            if version == self._seen:
                continue
            self._seen = version
            try:
                self._rules = load_rules(self._path)
            except InvalidArgument as error:
                _log.error("the fault rules stay as they were", error=error.message)
            else:
                self._obey()

    def _obey(self) -> None:
        """What is not asked for every time."""
        if self._node is None:
            return
        self.clock.offset_ms = self._rules.clock_ms.get(self._node, 0)
        if self._files is not None:
            self._files.space_bytes = 0 if self._node in self._rules.full else None


def load_rules(path: Path) -> Rules:
    """Raises InvalidArgument; without a file nothing is wrong anywhere."""
    try:
        document = json.loads(path.read_bytes())
        return Rules(
            cut=frozenset((_node(source), _node(target)) for source, target in document.pop("cut", ())),
            delay_ms={(_node(a), _node(b)): float(ms) for a, b, ms in document.pop("delay_ms", ())},
            clock_ms={_node(node): int(ms) for node, ms in document.pop("clock_ms", {}).items()},
            full=frozenset(_node(node) for node in document.pop("full", ())),
            slow_ms={_node(node): float(ms) for node, ms in document.pop("slow_ms", {}).items()},
            **document,
        )
    except FileNotFoundError:
        return Rules()
    except (OSError, ValueError, TypeError, AttributeError, InvalidArgument) as error:
        raise InvalidArgument("node.faults_malformed", f"{path} holds no fault rules: {error}") from error


def _node(text: str) -> NodeId:
    return NodeId(parse_hex_id(text))


def _version(path: Path) -> tuple[int, int, int]:
    try:
        stat = path.stat()
    except OSError:
        return (0, 0, 0)
    return (stat.st_ino, stat.st_mtime_ns, stat.st_size)
