"""A node installed by hand, as README says: its settings, `dwd init` or `dwd join`, `dwd run`."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.integration.harness import Daemon, Ran, dwd, run, until


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on now, proved by holding all of them at once."""
    held = [socket.socket() for _ in range(count)]
    try:
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


class Node:
    """One machine's files. `extra` is appended to its dwd.toml."""

    def __init__(self, root: Path, name: str = "a", *, extra: str = "") -> None:
        self.root, self.name = root, name
        self.data, self.identity = root / "data", root / "identity"
        self.config = root / "dwd.toml"
        self.operator = root / "operator"
        self.env = {"XDG_CONFIG_HOME": str(root / "home"), "DWCTL_CLUSTER": str(self.operator / "cluster.json")}
        root.mkdir(parents=True, exist_ok=True)
        self.grpc, self.s3, self.admin = (f"127.0.0.1:{port}" for port in free_ports(3))
        self.configure(extra)

    def configure(self, extra: str = "") -> None:
        self.config.write_text(
            f'[node]\nname = "{self.name}"\ndata_dir = "{self.data}"\nidentity_dir = "{self.identity}"\n'
            f'zone = "z-{self.name}"\n'
            f'[listen]\ngrpc = "{self.grpc}"\ns3 = "{self.s3}"\nadmin = "{self.admin}"\n'
            f'[telemetry]\nlog_format = "json"\n{extra}'
        )

    def dwd(self, *arguments: str, stdin: str = "") -> Ran:
        verb, *rest = arguments
        return dwd(verb, *rest, "--config", str(self.config), stdin=stdin)

    def init(self) -> dict[str, Any]:
        made: dict[str, Any] = self.dwd("init", "--cluster-name", "hand", "--json").good().json
        return made

    def dwctl(self, *arguments: str) -> Ran:
        return run("dwctl.main", *arguments, "--json", env=self.env)

    def daemon(self) -> Daemon:
        return Daemon(self.config, self.root / "dwd.log")

    def ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.admin}/health/ready", timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.HTTPError):
            return False

    def wait_ready(self, daemon: Daemon) -> None:
        def look() -> bool:
            if (code := daemon.process.poll()) is not None:
                raise RuntimeError(f"dwd ended with {code}: {daemon.text()[-2000:]}")
            return self.ready()

        until(f"{self.name} is ready", look)

    def s3_settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = json.loads((self.operator / "cluster.json").read_text())["s3"]
        return settings
