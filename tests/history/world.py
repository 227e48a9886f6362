"""A development cluster that a nemesis may hurt: its daemons obey a file of faults, and can lose their power.

Every node that ought to run is known, so that one that ended by itself is noticed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dwctl.context import read_cluster
from dwctl.dev import cluster, processes
from dwctl.dev.layout import DevFolder, load_plan
from dwctl.session import cluster_status, connected
from dwd.base.clock import Rng
from dwd.base.errors import Unavailable
from dwd.runtime.clock import SystemClock
from dwd.runtime.undo_log import drop_unsynced
from tests.history.disks import SmallDisks

CLOCK = SystemClock()
COMPACT_OFTEN = "\n[raft]\nsnapshot_entries = 400\ntrailing_entries = 100\n"
"""So that nodes that were away are brought up to date by snapshots too."""
GONE_SECONDS = 15.0
SHARD = 1
_ALARMS = ('"level":"critical"', '"verdict":"corrupt"', '"doubt":"corrupt"', "InvariantViolation", "base.invariant")
_FAULTS = "faults.json"


class World:
    """`up` once, `down` always. The methods block: call them on threads."""

    def __init__(
        self, root: Path, *, nodes: int, profile: str = "auto", recording: bool = False, disks: bool = False
    ) -> None:
        """`recording`: nodes remember what is not synced, so that `cut_power` can take it back. `disks`: each node's
        data lies on a small file system of its own, where mounting is allowed: then a full disk is full for SQLite too.
        """
        self.folder = DevFolder(root=root / "cluster")
        self._undo = root / "undo"
        self._nodes = nodes
        self._profile = profile
        self._recording = recording
        self._disks = SmallDisks() if disks else None
        self._rules: dict[str, Any] = {"cut": [], "delay_ms": [], "clock_ms": {}, "full": []}
        self._lock = threading.Lock()
        self._read: dict[str, int] = {}
        self._leaders: dict[int, tuple[int, str]] = {}
        self.document: dict[str, Any] = {}
        self.down_on_purpose: set[str] = set()
        self.alarms: list[str] = []

    def up(self) -> None:
        self.folder.root.mkdir(parents=True)
        if self._disks is not None:
            self._disks.mount([self.folder.data(f"n{number + 1}") for number in range(self._nodes)])
        self._write_rules()
        options = ("--faults", str(self._rules_path))
        with self._home():
            self.document = cluster.up(
                self.folder, nodes=self._nodes, profile=self._profile, report=lambda _: None, options=options
            )
        for name in self.names:
            with self.folder.config(name).open("a") as config:
                _ = config.write(COMPACT_OFTEN)
        if self._recording:
            _ = processes.stop(self.folder, self.names)
            self.start(*self.names)
        cluster.wait_ready(self.folder, list(load_plan(self.folder).nodes), lambda _: None)

    def down(self, *, keep: bool = False) -> None:
        """Stop every daemon. `keep` what was on disks of their own, which go."""
        try:
            if self.folder.plan.exists():
                _ = processes.stop(self.folder, [node.name for node in load_plan(self.folder).nodes])
        finally:
            if self._disks is not None:
                self._disks.unmount(keep=keep)

    @property
    def names(self) -> list[str]:
        return [node["name"] for node in self.document["nodes"]]

    @property
    def s3(self) -> dict[str, Any]:
        found: dict[str, Any] = self.document["s3"]
        return found

    def endpoint(self, name: str) -> str:
        return next(f"http://{node['s3']}" for node in self.document["nodes"] if node["name"] == name)

    def id(self, name: str) -> str:
        return next(str(node["id"]) for node in self.document["nodes"] if node["name"] == name)

    def leader(self, group: int = SHARD) -> str | None:
        """Who became leader last, as the logs tell: that needs no answer from anybody."""
        self.read_logs()
        found = self._leaders.get(group)
        return None if found is None else found[1]

    def status(self) -> Any:
        """`cluster status`."""
        with self._home(), connected(read_cluster(self.folder.cluster)) as client:
            return cluster_status(client)

    @contextmanager
    def _home(self) -> Iterator[None]:
        """What dwctl remembers of this cluster, it remembers here."""
        name = "XDG_CONFIG_HOME"
        before = os.environ.get(name)
        os.environ[name] = str(self.folder.root / "home")
        try:
            yield
        finally:
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before

    # -- processes ----------------------------------------------------------------------------------------------

    def kill(self, *names: str) -> None:
        self.down_on_purpose.update(names)
        self._signal(names, signal.SIGKILL)
        left = processes.wait_gone(self.folder, list(names), GONE_SECONDS)
        if left:
            raise AssertionError(f"killed in vain: {left}")

    def stop(self, *names: str) -> None:
        self.down_on_purpose.update(names)
        _ = processes.stop(self.folder, list(names))

    def start(self, *names: str) -> None:
        for name in names:
            options = ["--faults", str(self._rules_path)]
            if self._recording:
                shutil.rmtree(self._undo / name, ignore_errors=True)
                options += ["--record-unsynced", str(self._undo / name)]
            _ = processes.start(self.folder, name, *options)
            self.down_on_purpose.discard(name)

    def pause(self, *names: str) -> None:
        self._signal(names, signal.SIGSTOP)

    def resume(self, *names: str) -> None:
        self._signal(names, signal.SIGCONT)

    def cut_power(self, names: Iterable[str], rng: Rng) -> int:
        """Kill the nodes and take back some of what they had not synced, torn; how many changes that were."""
        self.kill(*names)
        recorded = [self._undo / name for name in names]
        return sum(drop_unsynced(undo, rng) for undo in recorded if any(undo.glob("*")))

    def _signal(self, names: Iterable[str], number: signal.Signals) -> None:
        """One that ended by itself is not signalled, but noticed: `ended`."""
        for name in names:
            with suppress(Unavailable):
                processes.signal_node(self.folder, name, number)

    def ended(self) -> list[str]:
        """Nodes that ought to run and do not: before the look as after it, for the nemesis is at work meanwhile."""
        wanted = [name for name in self.names if name not in self.down_on_purpose]
        dead = [name for name in wanted if processes.live_pid(self.folder, name) is None]
        return [name for name in dead if name not in self.down_on_purpose]

    def revive(self, name: str) -> bool:
        """Start a node again that found its disk full when it started, as a supervisor does. Whether it was that."""
        full = "storage.no_space" in processes.log_tail(self.folder, name)
        if full:
            self.start(name)
        return full

    # -- rules --------------------------------------------------------------------------------------------------

    def cut(self, links: Iterable[tuple[str, str]]) -> None:
        self._set("cut", [[self.id(source), self.id(target)] for source, target in links])

    def delay(self, links: Iterable[tuple[str, str]], milliseconds: float) -> None:
        self._set("delay_ms", [[self.id(source), self.id(target), milliseconds] for source, target in links])

    def set_clocks(self, offsets_ms: dict[str, int]) -> None:
        self._set("clock_ms", {self.id(name): offset for name, offset in offsets_ms.items()})

    def fill(self, names: Iterable[str]) -> None:
        full = set(names)
        if self._disks is not None and self._disks.mounted:
            self._disks.fill([self.folder.data(name) for name in self.names if name in full])
        else:
            self._set("full", [self.id(name) for name in full])

    @property
    def _rules_path(self) -> Path:
        return (self.folder.root / _FAULTS).resolve()

    def _set(self, rule: str, value: object) -> None:
        with self._lock:
            self._rules[rule] = value
            self._write_rules()

    def _write_rules(self) -> None:
        fresh = self._rules_path.with_suffix(".new")
        _ = fresh.write_text(json.dumps(self._rules))
        _ = fresh.replace(self._rules_path)

    # -- logs ---------------------------------------------------------------------------------------------------

    def read_logs(self) -> None:
        """Take in what the daemons said since the last time: leaders, and alarms that no fault excuses."""
        with self._lock:
            self._read_logs()

    def _read_logs(self) -> None:
        for name in self.names:
            with self.folder.log(name).open("rb") as log:
                _ = log.seek(self._read.get(name, 0))
                for line in log:
                    if not line.endswith(b"\n"):
                        break
                    self._read[name] = self._read.get(name, 0) + len(line)
                    self._take(name, line.decode(errors="replace"))

    def _take(self, name: str, line: str) -> None:
        if any(word in line for word in _ALARMS):
            self.alarms.append(f"{name}: {line.strip()[:2000]}")
        if '"leadership changed"' in line and '"role":"leader"' in line:
            told = json.loads(line)
            if told["term"] >= self._leaders.get(told["group"], (0, ""))[0]:
                self._leaders[told["group"]] = (told["term"], name)
