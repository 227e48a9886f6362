"""The daemons of a development cluster as processes: start, signal, wait; state lives in pid files and /proc."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from enum import Enum
from pathlib import Path

from dwctl.dev.layout import DevFolder
from dwctl.files import write_whole
from dwd.base.errors import DwError, Unavailable

STOP_SECONDS = 15.0
COMMAND_SECONDS = 60.0
POLL_SECONDS = 0.05
LOG_TAIL_LINES = 15


class ProcessState(Enum):
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


def daemon(*arguments: str) -> list[str]:
    """The command line of `dwd` in this very installation."""
    return [sys.executable, "-m", "dwd.node.cli", *arguments]


def run_daemon_command(*arguments: str, stdin: str = "") -> str:
    """Run a short `dwd` command; its standard output. Raises DwError with what it said. What is secret goes in through
    `stdin`: arguments can be read by everybody.
    """
    try:
        done = subprocess.run(
            daemon(*arguments), capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS, input=stdin
        )
    except subprocess.TimeoutExpired as error:
        raise Unavailable(
            "dev.command_hangs",
            f"dwd {arguments[0]} took more than {COMMAND_SECONDS:.0f} s",
            hint="run the same command again",
        ) from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()
        raise DwError(
            "dev.command_failed",
            f"dwd {arguments[0]} failed: {said[-2_000:]}",
            hint="mend that, then run the same command again",
        )
    return done.stdout


def live_pid(folder: DevFolder, name: str) -> int | None:
    """The pid of the node's daemon, or None; a pid that was reused by another program does not count."""
    try:
        pid = int(folder.pid(name).read_text())
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    mine = str(folder.config(name).resolve()).encode() in command
    return pid if mine and _state_letter(pid) not in {"Z", "X", ""} else None


def adopt(folder: DevFolder, names: list[str]) -> None:
    """Find daemons whose pid nobody wrote down: whoever started them was killed in between."""
    missing = {str(folder.config(n).resolve()).encode(): n for n in names if live_pid(folder, n) is None}
    for entry in Path("/proc").glob("[0-9]*") if missing else ():
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue  # it ended meanwhile
        name = next((missing[argument] for argument in arguments if argument in missing), None)
        if name is not None and b"run" in arguments:
            write_whole(folder.pid(name), f"{entry.name}\n")


def _state_letter(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def process_state(folder: DevFolder, name: str) -> ProcessState:
    pid = live_pid(folder, name)
    if pid is None:
        return ProcessState.STOPPED
    return ProcessState.PAUSED if _state_letter(pid) == "T" else ProcessState.RUNNING


def start(folder: DevFolder, name: str, *options: str) -> int:
    """Start the node's daemon detached from this terminal, unless it runs; its pid. `options` go to `dwd run`."""
    adopt(folder, [name])
    if (pid := live_pid(folder, name)) is not None:
        return pid
    with folder.log(name).open("ab") as log:
        process = subprocess.Popen(
            daemon("run", "--config", str(folder.config(name).resolve()), *options),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd=folder.node(name),
        )
    write_whole(folder.pid(name), f"{process.pid}\n")
    return process.pid


def signal_node(folder: DevFolder, name: str, number: signal.Signals) -> None:
    """Raises Unavailable when the daemon does not run."""
    pid = live_pid(folder, name)
    if pid is None:
        raise Unavailable(
            "dev.not_running", f"{name} does not run", hint=f"start it: dwctl dev start {name} --dir {folder.root}"
        )
    try:
        os.kill(pid, number)
    except ProcessLookupError as error:
        raise Unavailable("dev.not_running", f"{name} has just ended", hint=f"see {folder.log(name)}") from error


def wait_gone(folder: DevFolder, names: list[str], seconds: float) -> list[str]:
    """Wait for the daemons to end; the names of those that still run."""
    deadline = time.monotonic() + seconds
    while (left := [n for n in names if live_pid(folder, n) is not None]) and time.monotonic() < deadline:
        _reap()
        time.sleep(POLL_SECONDS)
    return left


def _reap() -> None:
    """Collect ended children of this process, which would otherwise look alive as zombies."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
    except ChildProcessError:
        return


def stop(folder: DevFolder, names: list[str]) -> list[str]:
    """SIGTERM (waking paused ones), then SIGKILL for those that do not end; the names that needed killing."""
    adopt(folder, names)
    for name in names:
        _send(folder, name, signal.SIGTERM)
        _send(folder, name, signal.SIGCONT)
    stubborn = wait_gone(folder, names, STOP_SECONDS)
    for name in stubborn:
        _send(folder, name, signal.SIGKILL)
    wait_gone(folder, stubborn, STOP_SECONDS)
    return stubborn


def _send(folder: DevFolder, name: str, number: signal.Signals) -> None:
    """To the node's daemon, if there is one; it may end at any moment by itself."""
    pid = live_pid(folder, name)
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def log_tail(folder: DevFolder, name: str) -> str:
    """The last lines the daemon logged, for error messages."""
    try:
        return "\n".join(folder.log(name).read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
    except OSError:
        return ""
