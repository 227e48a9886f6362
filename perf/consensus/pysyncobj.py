"""PySyncObj in a virtual environment of its own: it is no dependency of this project."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from perf.consensus.system import MEMBERS, Processes, free_ports

PACKAGE = "pysyncobj"


class PySyncObj(Processes):
    name = "PySyncObj"
    note = (
        "PySyncObj: no fsync at all (journal in memory), no linearizable reads; its client is a member that does not "
        "vote, so it receives the log too"
    )
    reads_linearizable = False
    noisy = True

    def __init__(self, folder: Path, environment: Path) -> None:
        super().__init__(folder)
        self._python = environment / "bin" / "python"
        self._addresses = [f"127.0.0.1:{port}" for port in free_ports(MEMBERS)]

    @staticmethod
    def prepare(environment: Path) -> bool:
        """Make the environment unless it is there. Whether it can be used."""
        if (environment / "bin" / "python").exists():
            return True
        steps = (
            [sys.executable, "-m", "venv", str(environment)],
            [str(environment / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", PACKAGE],
        )
        return all(subprocess.run(step, capture_output=True, check=False).returncode == 0 for step in steps)

    def member_command(self, member: int) -> list[str]:
        return self._script("member", self._addresses[member])

    def client_command(self) -> list[str]:
        return self._script("client", "")

    def _script(self, role: str, own: str) -> list[str]:
        return [str(self._python), "-m", "perf.consensus.pysyncobj_script", role, own, json.dumps(self._addresses)]
