"""A system of three members as the benchmark sees it, and the client process that drives it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from perf.cluster import cpu_seconds

MEMBERS = 3
ROOT = Path(__file__).resolve().parent.parent.parent
START_SECONDS = 60.0


class System(ABC):
    """Members are counted from 0. Everything it stores is below `folder`."""

    name: str
    note: str
    """What must be known to read its figures."""
    reads_linearizable = True
    can_transfer = False
    noisy = False
    """Its client prints warnings that say nothing of us."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pids: list[int] = []
        self.root = ROOT
        self._client: subprocess.Popen[str] | None = None

    @abstractmethod
    def start(self) -> None:
        """Start the members and return once they answer."""

    @abstractmethod
    def client_command(self) -> list[str]:
        """The client process: it speaks `perf.consensus.work` on its standard streams."""

    @abstractmethod
    def restart(self, member: int) -> None:
        """Start a member that was killed."""

    @abstractmethod
    def stop(self) -> None:
        """End the members."""

    def connect(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(self.root)}
        self._client = subprocess.Popen(
            self.client_command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
            cwd=self.root, stderr=subprocess.DEVNULL if self.noisy else None,
        )  # fmt: skip

    def ask(self, **order: Any) -> dict[str, Any]:
        self.order(**order)
        return self.answer()

    def order(self, **order: Any) -> None:
        client = self._running_client()
        if client.stdin is not None:
            client.stdin.write(json.dumps(order) + "\n")
            client.stdin.flush()

    def answer(self) -> dict[str, Any]:
        client = self._running_client()
        line = client.stdout.readline() if client.stdout is not None else ""
        if not line:
            sys.exit(f"the client of {self.name} ended ({client.poll()})")
        found: dict[str, Any] = json.loads(line)
        return found

    def kill(self, member: int) -> None:
        os.kill(self.pids[member], signal.SIGKILL)

    def pause(self, member: int) -> None:
        os.kill(self.pids[member], signal.SIGSTOP)

    def resume(self, member: int) -> None:
        os.kill(self.pids[member], signal.SIGCONT)

    def transfer(self) -> None:
        """Have the leader hand over; only where `can_transfer`."""
        raise NotImplementedError(f"{self.name} is not asked to")

    def cpu_seconds(self) -> float:
        """User and system time of all members so far; of those that live."""
        return sum(cpu_seconds(pid) for pid in self.pids)

    def leader(self) -> int:
        """Waits until one is known."""
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            found: int = self.ask(verb="leader")["leader"]
            if found >= 0:
                return found
            time.sleep(0.1)
        sys.exit(f"{self.name} found no leader in {START_SECONDS:.0f} s")

    def disconnect(self) -> None:
        if self._client is not None and self._client.stdin is not None:
            self._client.stdin.close()
            self._client.kill()
            _ = self._client.wait()
            self._client = None

    def _running_client(self) -> subprocess.Popen[str]:
        if self._client is None:
            sys.exit(f"{self.name} has no client")
        return self._client


class Processes(System):
    """Members that are child processes of this one."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._members: list[subprocess.Popen[bytes]] = []

    @abstractmethod
    def member_command(self, member: int) -> list[str]: ...

    def start(self) -> None:
        self.folder.mkdir(parents=True)
        self._members = [self._spawn(member) for member in range(MEMBERS)]
        self.pids = [member.pid for member in self._members]

    def restart(self, member: int) -> None:
        _ = self._members[member].wait()
        self._members[member] = self._spawn(member)
        self.pids[member] = self._members[member].pid

    def stop(self) -> None:
        for member in self._members:
            member.kill()
            _ = member.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _spawn(self, member: int) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with (self.folder / f"member-{member}.log").open("ab") as log:
            return subprocess.Popen(self.member_command(member), stdout=log, stderr=log, env=environment)


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports
