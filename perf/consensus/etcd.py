"""etcd, as the distribution packages it: three members on loopback, without TLS, each with its own data directory."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from perf.consensus.system import MEMBERS, Processes, free_ports


class Etcd(Processes):
    name = "etcd"
    note = "etcd: fsync, no TLS, its gRPC API, requests encoded by hand, writes and reads to the leader"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        ports = free_ports(2 * MEMBERS)
        self._clients, self._peers = ports[:MEMBERS], ports[MEMBERS:]

    @staticmethod
    def installed() -> bool:
        return shutil.which("etcd") is not None

    def member_command(self, member: int) -> list[str]:
        client, peer = (f"http://127.0.0.1:{ports[member]}" for ports in (self._clients, self._peers))
        everyone = ",".join(f"m{m}=http://127.0.0.1:{port}" for m, port in enumerate(self._peers))
        return [
            "etcd", "--name", f"m{member}", "--data-dir", str(self.folder / f"m{member}"),
            "--listen-client-urls", client, "--advertise-client-urls", client,
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
            "--initial-cluster", everyone, "--initial-cluster-state", "new", "--log-level", "error",
        ]  # fmt: skip

    def client_command(self) -> list[str]:
        return [
            sys.executable,
            "-m",
            "perf.consensus.etcd_client",
            json.dumps([f"127.0.0.1:{port}" for port in self._clients]),
        ]
