"""Real clusters for tests: `dwctl dev` brings them up, faults are done to their processes and files, nothing is mocked.

A `Cluster` owns its directory and ends only the daemons it started. Waiting is always for a condition with a deadline.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from dwd.runtime.clock import SystemClock

T = TypeVar("T")
clock = SystemClock()
LOG_TAIL_LINES = 30
COMMAND_SECONDS = 180.0
POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """A command that ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed for scripts; its error document when it failed."""
        return json.loads(self.out if self.out.strip() else self.err.splitlines()[-1])

    def good(self) -> Ran:
        assert self.code == 0, f"exit {self.code}\n{self.out}\n{self.err}"
        return self


def run(module: str, *arguments: str, env: dict[str, str] | None = None, stdin: str = "") -> Ran:
    """`dwctl.main` or `dwd.node.cli` in this very installation."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_SECONDS,
        env={**os.environ, **(env or {})},
        input=stdin,
    )
    return Ran(code=done.returncode, out=done.stdout, err=done.stderr)


def dwd(*arguments: str, env: dict[str, str] | None = None, stdin: str = "") -> Ran:
    return run("dwd.node.cli", *arguments, env=env, stdin=stdin)


def dwd_later(seconds: int, *arguments: str) -> Ran:
    """`dwd` on a machine whose clock is `seconds` ahead."""
    code = (
        "import dwd.runtime.clock as clocks\n"
        "now = clocks.SystemClock.unix_ms\n"
        f"clocks.SystemClock.unix_ms = lambda self: now(self) + {seconds} * 1000\n"
        "from dwd.node.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_SECONDS,
    )
    return Ran(code=done.returncode, out=done.stdout, err=done.stderr)


def until(what: str, probe: Callable[[], T], *, seconds: float = 60.0) -> T:
    """Ask `probe` until its answer is true; that answer. Fails with the last answer or error when time is up."""
    deadline = clock.monotonic() + seconds
    while True:
        last: object = None
        try:
            answer = probe()
            if answer:
                return answer
            last = answer
        except (AssertionError, OSError, ValueError, KeyError, subprocess.TimeoutExpired) as error:
            last = error
        if clock.monotonic() >= deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}; last: {last!r}")
        time.sleep(POLL_SECONDS)


class Cluster:
    """A development cluster in `root`."""

    def __init__(self, root: Path, nodes: int, *, profile: str = "auto") -> None:
        self.root = root
        self.size = nodes
        self.profile = profile
        self.env = {"XDG_CONFIG_HOME": str(root / "home"), "DWCTL_CLUSTER": str(root / "cluster.json")}
        self.document: dict[str, Any] = {}

    def up(self) -> Cluster:
        size = ("--nodes", str(self.size), "--profile", self.profile)
        self.document = self.dwctl("dev", "up", *size, "--dir", str(self.root)).good().json
        return self

    def down(self) -> None:
        """Stop every daemon of this cluster; when even that command is broken, by the pids it left."""
        if not (self.root / "dev.json").exists():
            return
        ran = self.dwctl("dev", "down", "--dir", str(self.root))
        if ran.code != 0:
            for file in self.root.glob("*/dwd.pid"):
                pid = int(file.read_text())
                if str(file.parent / "dwd.toml").encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGKILL)
        ran.good()

    def dwctl(self, *arguments: str, json_out: bool = True) -> Ran:
        return run("dwctl.main", *arguments, *(("--json",) if json_out else ()), env=self.env)

    # -- nodes --------------------------------------------------------------------------------------------------

    @property
    def names(self) -> list[str]:
        return [n["name"] for n in self.document["nodes"]]

    def node(self, name: str) -> dict[str, Any]:
        return next(n for n in self.document["nodes"] if n["name"] == name)

    def data(self, name: str) -> Path:
        return self.root / name / "data"

    def config(self, name: str) -> Path:
        return self.root / name / "dwd.toml"

    def device(self, name: str) -> Path:
        return self.data(name) / "devices" / "d0"

    def log(self, name: str) -> str:
        return (self.root / name / "dwd.log").read_text(errors="replace")

    @contextmanager
    def logged(self, name: str) -> Iterator[Callable[[], str]]:
        """What the node logs from here on."""
        start = (self.root / name / "dwd.log").stat().st_size
        yield lambda: (self.root / name / "dwd.log").read_bytes()[start:].decode(errors="replace")

    def act(self, verb: str, *names: str) -> None:
        """kill, stop, start, pause or resume."""
        for name in names:
            self.dwctl("dev", verb, name, "--dir", str(self.root)).good()

    def start_all(self, names: Sequence[str]) -> None:
        """Start without waiting for one before the next."""
        running = [self.launch(name) for name in names]
        for process in running:
            out, err = process.communicate(timeout=COMMAND_SECONDS)
            assert process.returncode == 0, out + err

    def launch(self, name: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "dwctl.main", "dev", "start", name, "--dir", str(self.root), "--json"]
        return subprocess.Popen(
            command, env={**os.environ, **self.env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    # -- what it says of itself ---------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.dwctl("cluster", "status").good().json
        return found

    def leader(self, kind: str = "shard") -> str:
        """The name of the node that leads the group."""

        def look() -> str:
            found = self.status()
            names = {n["id"]: n["name"] for n in found["nodes"]}
            return next((names.get(g["leader"], "") for g in found["groups"] if g["kind"] == kind), "")

        return until(f"the {kind} has a leader", look)

    def recount(self, *, pages: bool = False) -> dict[str, Any]:
        """`cluster verify`: counted from the devices. Raises AssertionError when it cannot be done now."""
        ran = self.dwctl("cluster", "verify", *(("--pages",) if pages else ()))
        assert ran.code in {0, 1}, ran.err
        assert ran.out.strip(), ran.err
        found: dict[str, Any] = ran.json
        whole = not (found["blocks_degraded"] or found["blocks_unreadable"] or found["blocks_unknown"])
        assert (ran.code == 0) == whole, (ran.code, found)
        return found

    def wait_whole(self, *, pages: bool = False, seconds: float = 90.0) -> dict[str, Any]:
        """Until every fragment that should exist was found on its device."""

        def look() -> dict[str, Any] | None:
            found = self.recount(pages=pages)
            short = found["blocks_degraded"] or found["blocks_unreadable"] or found["blocks_unknown"]
            assert not short, found
            assert found["fragments_found"] == found["fragments_expected"], found
            return found

        return until("every fragment is on its device", look, seconds=seconds)

    def wait_healthy(self, *, seconds: float = 90.0) -> dict[str, Any]:
        """Until every node, group, member and device is as it should be."""
        voters = min(5, self.size - (self.size + 1) % 2)

        def look() -> dict[str, Any]:
            found = self.status()
            assert found["health"] == "healthy", found["reasons"]
            for group in found["groups"]:
                roles = [m["role"] for m in group["members"]]
                assert roles.count("voter") == voters, (group["group"], roles)
                lagging = [m for m in group["members"] if m["state"] not in {"leader", "replicate"}]
                assert not lagging, lagging
            return found

        return until("the cluster is healthy", look, seconds=seconds)

    def fragments_held(self) -> int:
        """What all devices say they hold, whatever metadata thinks."""
        return sum(d["fragments"] for d in self.status()["devices"])

    def tails(self) -> str:
        """The end of every daemon's log."""
        parts = []
        for path in sorted(self.root.glob("*/dwd.log")):
            lines = path.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
            parts.append(f"---- {path.parent.name}\n" + "\n".join(lines))
        return "\n".join(parts)


running: list[Cluster] = []
"""Those whose logs are shown when a test fails."""


class Daemon:
    """One `dwd run` by hand, ended at the end of the block."""

    def __init__(self, config: Path, log: Path) -> None:
        self.log = log
        self._stream = log.open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dwd.node.cli", "run", "--config", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=self._stream,
            stderr=self._stream,
        )

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            code = self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait(timeout=30)
        self._stream.close()
        return code

    def text(self) -> str:
        return self.log.read_text(errors="replace")


def flip(path: Path, offset: int, *, length: int = 1) -> None:
    """Turn the bits of `length` bytes over, in place."""
    with path.open("r+b") as stream:
        stream.seek(offset)
        found = stream.read(length)
        stream.seek(offset)
        stream.write(bytes(b ^ 0xFF for b in found))


def empty(directory: Path) -> None:
    """Remove all that is in a directory, as a new disk would."""
    for entry in directory.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()
