"""A development cluster to measure, and what its daemons use: processor time and memory, from /proc."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DWCTL = [sys.executable, "-m", "dwctl.main"]
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
MIB_KIB = 1024


def dwctl(folder: Path, *arguments: str, check: bool = True, root: Path | None = None) -> dict[str, Any]:
    """Run dwctl with --json on the cluster in `folder`; its answer. `root`: with the code of another tree."""
    environment = {**os.environ, "DWCTL_CLUSTER": str(folder / "cluster.json"), "XDG_CONFIG_HOME": str(folder / "home")}
    if root is not None:
        environment["PYTHONPATH"] = str(root)
    done = subprocess.run(
        [*DWCTL, *arguments, "--json"], capture_output=True, text=True, check=False, env=environment, cwd=root
    )
    if check and done.returncode != 0:
        sys.exit(f"dwctl {' '.join(arguments)} failed ({done.returncode}):\n{done.stderr}{done.stdout}")
    answer: dict[str, Any] = json.loads(done.stdout) if done.stdout.strip() else {}
    return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Resident MiB of the largest daemon: now, and at most since the last `forget_peak`."""

    now_mib: float
    peak_mib: float


class Cluster:
    """The daemons of one `dwctl dev` directory."""

    name = "dwd"

    def __init__(self, folder: Path, document: dict[str, Any]) -> None:
        self.folder = folder
        self.s3: dict[str, Any] = document["s3"]
        self._nodes: list[dict[str, Any]] = document["nodes"]
        self.names: list[str] = [node["name"] for node in self._nodes]
        self.pids: list[int] = [node["pid"] for node in self._nodes]

    @classmethod
    def up(cls, folder: Path, *, nodes: int = 6) -> Cluster:
        document = dwctl(folder, "dev", "up", "--nodes", str(nodes), "--profile", "rs-4-2", "--dir", str(folder))
        return cls(folder, document)

    @classmethod
    def existing(cls, folder: Path) -> Cluster:
        return cls(folder, json.loads((folder / "cluster.json").read_text()))

    def kill(self, count: int) -> None:
        """The last `count` nodes; their endpoints are not offered any more."""
        names = [node["name"] for node in self._nodes[-count:]]
        for name in names:
            dwctl(self.folder, "dev", "kill", name, "--dir", str(self.folder))
        self.s3 = {**self.s3, "endpoints": self.s3["endpoints"][:-count]}
        self.pids = self.pids[:-count]

    def down(self) -> None:
        dwctl(self.folder, "dev", "down", "--dir", str(self.folder), check=False)

    def cpu_seconds(self) -> float:
        """User and system time of all daemons so far."""
        return sum(cpu_seconds(pid) for pid in self.pids)

    def memory(self) -> Memory:
        found = [resident_mib(pid) for pid in self.pids]
        return Memory(now_mib=max(now for now, _ in found), peak_mib=max(peak for _, peak in found))

    def forget_peak(self) -> None:
        """Let `peak_mib` count from now. Source: proc(5), /proc/PID/clear_refs, value 5."""
        for pid in self.pids:
            Path(f"/proc/{pid}/clear_refs").write_text("5")


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def resident_mib(pid: int) -> tuple[float, float]:
    """Of a process: now, and at most."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return int(lines["VmRSS"].split()[0]) / MIB_KIB, int(lines["VmHWM"].split()[0]) / MIB_KIB
