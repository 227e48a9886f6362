"""dwd itself: three daemons of a development cluster. The client calls as another node does, over mutual TLS."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from perf.cluster import dwctl
from perf.consensus.system import MEMBERS, ROOT, START_SECONDS, System


class Dwd(System):
    name = "dwd"
    note = "dwd: fsync, mutual TLS, PutObject with inline bytes and GetObject over the stream that nodes use"

    can_transfer = True

    def __init__(self, folder: Path, root: Path = ROOT) -> None:
        """`root` is the tree whose code runs, for comparing two of them."""
        super().__init__(folder)
        self._document: dict[str, Any] = {}
        self.root = root
        if root != ROOT:
            self.name = f"dwd of {root.name}"

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._document = self._dwctl("dev", "up", "--nodes", str(MEMBERS), "--dir", str(self.folder))
        self._take_pids()

    def client_command(self) -> list[str]:
        nodes = [[node["id"], node["grpc"]] for node in self._document["nodes"]]
        identity = Path(self._document["nodes"][0]["data_dir"]).parent / "identity"
        return [sys.executable, "-m", "perf.consensus.dwd_client", str(identity), json.dumps(nodes)]

    def restart(self, member: int) -> None:
        name = self._document["nodes"][member]["name"]
        until = time.monotonic() + START_SECONDS
        while True:
            found = self._dwctl("dev", "start", name, "--dir", str(self.folder), check=time.monotonic() > until)
            if found:
                break
        self._document = json.loads((self.folder / "cluster.json").read_text())
        self._take_pids()

    def transfer(self) -> None:
        self._dwctl("raft", "transfer", "1")

    def stop(self) -> None:
        self._dwctl("dev", "down", "--dir", str(self.folder), check=False)

    def _dwctl(self, *arguments: str, check: bool = True) -> dict[str, Any]:
        return dwctl(self.folder, *arguments, check=check, root=self.root)

    def _take_pids(self) -> None:
        self.pids = [node["pid"] for node in self._document["nodes"]]
