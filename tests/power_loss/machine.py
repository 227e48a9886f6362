"""A cluster of real daemons whose power can be cut: every node is killed and loses what it had not synced."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dwctl.dev import processes
from dwctl.dev.cluster import is_ready, write_cluster
from dwctl.dev.layout import DevFolder, Plan, load_plan
from dwd.base.clock import Rng
from dwd.journal.recovery import Recovery
from dwd.raft.log.bounds import parse_segment_name
from dwd.runtime.clock import SystemClock
from dwd.runtime.os_files import OsFiles
from dwd.runtime.undo_log import drop_unsynced

CLOCK = SystemClock()
READY_SECONDS = 60.0
POLL_SECONDS = 0.05
COMPACT_OFTEN = "\n[raft]\nsnapshot_entries = 300\ntrailing_entries = 100\n"
"""So that logs are cut, and databases trusted, within a round."""

_ALARMS = ('"level":"critical"', '"verdict":"corrupt"', '"doubt":"corrupt"')


class Loss(AssertionError):
    """Something the cluster had promised to keep is gone, or the cluster itself did not come back."""


class PowerCluster:
    """`up` once; then `start`, `cut_power`, `start` again. `down` always."""

    def __init__(self, root: Path, *, nodes: int, profile: str) -> None:
        self.folder = DevFolder(root=root / "cluster")
        self._undo = root / "undo"
        self._home = root / "home"
        self._saved = root / "saved"
        self._nodes = nodes
        self._profile = profile
        self._ended: dict[str, int] = {}

    @property
    def plan(self) -> Plan:
        return load_plan(self.folder)

    @property
    def names(self) -> list[str]:
        return [node.name for node in self.plan.nodes]

    @property
    def s3(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.folder.cluster.read_text())["s3"]
        return found

    def up(self) -> None:
        """Make the cluster and stop it again: from now on every byte is recorded."""
        asked = ["--nodes", str(self._nodes), "--profile", self._profile, "--dir", str(self.folder.root)]
        self._dwctl("dev", "up", *asked, check=True)
        _ = processes.stop(self.folder, self.names)
        for name in self.names:
            with self.folder.config(name).open("a") as config:
                _ = config.write(COMPACT_OFTEN)

    def save(self) -> None:
        """Remember the stopped cluster as it is, for `restore`."""
        _copy(self.folder.root, self._saved)

    def restore(self) -> None:
        shutil.rmtree(self.folder.root)
        _copy(self._saved, self.folder.root)
        self._ended.clear()

    def start(self, *, ignoring: Sequence[str] = ()) -> float:
        """Start all nodes; how many seconds until all are ready. `ignoring`: names below data_dir whose syncs do
        nothing, "" for all of it. Raises Loss when they do not come back.
        """
        began = CLOCK.monotonic()
        for name in self.names:
            shutil.rmtree(self._undo / name, ignore_errors=True)
            lies = [str((self.folder.data(name) / part).resolve()) for part in ignoring]
            options = [word for lie in lies for word in ("--ignore-syncs", lie)]
            _ = processes.start(self.folder, name, "--record-unsynced", str(self._undo / name), *options)
        _ = write_cluster(self.folder, self.plan)
        self._wait_ready()
        return CLOCK.monotonic() - began

    def cut_power(self, rng: Rng | None) -> int:
        """Kill all at once and take back what was not synced, or with `rng` some of it; how many changes that were."""
        for name in self.names:
            processes.signal_node(self.folder, name, signal.SIGKILL)
        left = processes.wait_gone(self.folder, self.names, 10.0)
        if left:
            raise AssertionError(f"killed in vain: {left}")
        return sum(drop_unsynced(self._undo / name, rng) for name in self.names)

    def tear_logs(self) -> None:
        """Leave half a batch at the end of every node's Raft log: all replicas are in doubt at once."""
        files = OsFiles()
        for name in self.names:
            folder = self.folder.data(name) / "log"
            paths = {n: path for path in folder.iterdir() if (n := parse_segment_name(path.name)) is not None}
            recovery = Recovery(files, paths)
            for _ in recovery:
                continue
            with contextlib.closing(files.open(paths[recovery.tail.segment])) as file:
                _ = file.write_at(recovery.tail.offset, [b"\xa5" * 777])

    def down(self) -> None:
        if self.folder.plan.exists():
            _ = processes.stop(self.folder, self.names)

    def verify(self, seconds: float) -> None:
        """Until every fragment that should exist is read and found sound. Raises Loss."""
        deadline = CLOCK.monotonic() + seconds
        while (done := self._dwctl("cluster", "verify", "--pages")).returncode != 0:
            if CLOCK.monotonic() > deadline:
                raise Loss(f"verify is not clean: {done.stdout}{done.stderr}")
            time.sleep(0.5)

    def read_logs(self) -> set[str]:
        """Which nodes doubted the end of their log. Raises Loss if a daemon met damage or broke an invariant: losing
        power must cause neither.
        """
        doubted: set[str] = set()
        for name in self.names:
            with self.folder.log(name).open() as log:
                _ = log.seek(self._ended.get(name, 0))
                lines = log.readlines()
                self._ended[name] = log.tell()
            for line in lines:
                if any(word in line for word in _ALARMS):
                    raise Loss(f"{name} says: {line.strip()[:2000]}")
                if '"doubt":"tail"' in line:
                    doubted.add(name)
        return doubted

    def _wait_ready(self) -> None:
        deadline = CLOCK.monotonic() + READY_SECONDS
        waiting = list(self.plan.nodes)
        while waiting:
            for node in waiting:
                if processes.live_pid(self.folder, node.name) is None:
                    raise Loss(f"{node.name} ended:\n{processes.log_tail(self.folder, node.name)}")
            waiting = [node for node in waiting if not is_ready(node)]
            if waiting and CLOCK.monotonic() > deadline:
                said = processes.log_tail(self.folder, waiting[0].name)
                raise Loss(f"not ready after {READY_SECONDS:.0f} s: {[n.name for n in waiting]}\n{said}")
            time.sleep(POLL_SECONDS if waiting else 0)

    def _dwctl(self, *arguments: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ, "XDG_CONFIG_HOME": str(self._home), "DWCTL_CLUSTER": str(self.folder.cluster),
        }  # fmt: skip
        command = [sys.executable, "-m", "dwctl.main", *arguments, "--json"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        if check and done.returncode:
            raise AssertionError(f"dwctl {' '.join(arguments)}: {done.stderr}{done.stdout}")
        return done


def _copy(source: Path, target: Path) -> None:
    """Preallocated segments are mostly zeros."""
    _ = subprocess.run(["cp", "-a", "--sparse=always", str(source), str(target)], check=True)
