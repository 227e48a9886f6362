"""`make demo`: six daemons store real files, lose two nodes in the middle of it, and lose nothing.

Starts a cluster in a temporary directory, writes the Python standard library and a file of 256 MiB through S3, kills
the leader of the shard and a node that serves clients while writing, reads every byte back, starts the two again,
waits until the devices themselves hold every fragment, deletes everything. Exits 0 only if every check held.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

BUCKET = "demo"
BIG_BYTES = 256 * 1024 * 1024
BIG_KEY = "big/256MiB.bin"
WORKERS = 8
RETRY_SECONDS = 60.0
HEAL_SECONDS = 120.0
KILL_AT = 0.35
"""Share of the files written before the two nodes are killed."""
DWCTL = [sys.executable, "-m", "dwctl.main"]


def dwctl(*arguments: str, cluster: Path, check: bool = True) -> dict[str, Any]:
    """Run dwctl with --json; its answer."""
    environment = {
        **os.environ,
        "DWCTL_CLUSTER": str(cluster / "cluster.json"),
        "XDG_CONFIG_HOME": str(cluster / "home"),
    }
    done = subprocess.run([*DWCTL, *arguments, "--json"], capture_output=True, text=True, check=False, env=environment)
    if check and done.returncode != 0:
        sys.exit(f"dwctl {' '.join(arguments)} failed ({done.returncode}):\n{done.stderr}{done.stdout}")
    return json.loads(done.stdout) if done.stdout.strip() else {"exit": done.returncode, "stderr": done.stderr}


class Endpoints:
    """One S3 client an endpoint, shared by all threads. Whose endpoint fails moves on to the next and tries again.

    The clients are made before anything is killed: making one takes a tenth of a second of processor time, and eight
    threads that all make one at that moment would be most of the measured time to fail over.
    """

    def __init__(self, s3: dict[str, Any]) -> None:
        self.urls: list[str] = s3["endpoints"]
        session = boto3.session.Session()
        self._clients = {url: _client(session, s3, url) for url in self.urls}
        self._lock = threading.Lock()
        self._preferred = 1 % len(self.urls)
        self.retries = 0
        self.longest_gap = 0.0
        self.last_success = time.monotonic()
        self.watching = False

    @property
    def serving(self) -> str:
        """The endpoint that threads talk to now."""
        return self.urls[self._preferred]

    def call(self, work: Callable[[Any], Any]) -> Any:
        """Do `work` with a client until it succeeds; requests are idempotent puts, gets and deletes."""
        deadline = time.monotonic() + RETRY_SECONDS
        while True:
            url = self.serving
            try:
                answer = work(self._clients[url])
            except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError, OSError) as error:
                if time.monotonic() > deadline or not retryable(error):
                    raise
                with self._lock:
                    self.retries += 1
                    if url == self.serving:
                        self._preferred = (self._preferred + 1) % len(self.urls)
                time.sleep(0.02)
            else:
                self._succeeded()
                return answer

    def _succeeded(self) -> None:
        with self._lock:
            now = time.monotonic()
            if self.watching:
                self.longest_gap = max(self.longest_gap, now - self.last_success)
            self.last_success = now


def _client(session: boto3.session.Session, s3: dict[str, Any], url: str) -> Any:
    return session.client(
        "s3",
        endpoint_url=url,
        aws_access_key_id=s3["access_key"],
        aws_secret_access_key=s3["secret_key"],
        region_name=s3["region"],
        config=Config(
            retries={"total_max_attempts": 1},
            connect_timeout=2,
            read_timeout=10,
            max_pool_connections=2 * WORKERS,
            s3={"addressing_style": "path"},
        ),
    )


def retryable(error: Exception) -> bool:
    """Whether another endpoint, or the same a moment later, may do better."""
    if isinstance(error, botocore.exceptions.ClientError):
        return int(error.response["ResponseMetadata"].get("HTTPStatusCode", 0)) >= 500
    return True


@dataclass
class Phase:
    """One row of the table."""

    name: str
    objects: int
    size: int
    seconds: float
    errors: int


@dataclass
class Demo:
    folder: Path
    console: Console
    phases: list[Phase] = field(default_factory=list)
    checks: list[tuple[str, bool, str]] = field(default_factory=list)

    def check(self, what: str, good: bool, detail: str = "") -> None:
        self.checks.append((what, good, detail))
        mark = "[green]ok[/]" if good else "[red]FAILED[/]"
        self.console.print(f"  {mark} {what}{': ' + detail if detail else ''}", highlight=False)

    def run(self) -> bool:
        files = list(real_files())
        started = time.monotonic()
        document = dwctl(
            "dev", "up", "--nodes", "6", "--profile", "rs-4-2", "--dir", str(self.folder), cluster=self.folder
        )
        self.console.print(f"six nodes serve after {time.monotonic() - started:.1f} s", highlight=False)
        endpoints = Endpoints(document["s3"])
        endpoints.call(lambda s3: s3.create_bucket(Bucket=BUCKET))
        killed, digests = self.write(endpoints, files)
        self.check("writes went on while two nodes died", True, f"longest gap {endpoints.longest_gap:.2f} s")
        self.read(endpoints, digests, "read, two nodes dead")
        restarted = time.monotonic()
        for name in killed:
            dwctl("dev", "start", name, cluster=self.folder)
        healed = self.wait_healed(restarted)
        self.check("every fragment is on its device again", healed is not None, f"after {healed or 0:.1f} s")
        self.read(endpoints, sample(digests), "read a sample, all nodes up")
        self.delete(endpoints, digests)
        self.table(endpoints, healed)
        return all(good for _, good, _ in self.checks)

    def write(
        self, endpoints: Endpoints, files: list[tuple[str, Path]]
    ) -> tuple[list[str], dict[str, tuple[str, int]]]:
        """Store everything; kill two nodes on the way. The nodes killed, and key to (SHA-256, size)."""
        digests: dict[str, tuple[str, int]] = {}
        killed: list[str] = []
        done = 0
        kill_at = int(len(files) * KILL_AT)
        turn = threading.Lock()
        before, started = endpoints.retries, time.monotonic()
        chance = random.Random(7)
        big = b"".join(chance.randbytes(1024 * 1024) for _ in range(BIG_BYTES // (1024 * 1024)))
        with self.progress("write", len(files) + 1) as step:

            def put(item: tuple[str, Path]) -> None:
                nonlocal done
                key, path = item
                content = path.read_bytes()
                endpoints.call(lambda s3: s3.put_object(Bucket=BUCKET, Key=key, Body=content))
                with turn:
                    digests[key] = (hashlib.sha256(content).hexdigest(), len(content))
                    done += 1
                    step()

            def put_big() -> None:
                config = TransferConfig(multipart_chunksize=16 * 1024 * 1024, max_concurrency=2)
                endpoints.call(lambda s3: s3.upload_fileobj(io.BytesIO(big), BUCKET, BIG_KEY, Config=config))
                digests[BIG_KEY] = (hashlib.sha256(big).hexdigest(), len(big))
                step()

            with ThreadPoolExecutor(WORKERS + 1) as pool:
                large = pool.submit(put_big)
                first = [pool.submit(put, item) for item in files[:kill_at]]
                for future in first:
                    future.result()
                rest = [pool.submit(put, item) for item in files[kill_at:]]
                killed = self.kill_two(endpoints)
                for future in rest:
                    future.result()
                large.result()
        endpoints.watching = False
        seconds = time.monotonic() - started
        total = sum(size for _, size in digests.values())
        self.phases.append(Phase("write, two nodes killed", len(digests), total, seconds, endpoints.retries - before))
        return killed, digests

    def kill_two(self, endpoints: Endpoints) -> list[str]:
        """The leader of the shard, and the node whose S3 endpoint the client uses."""
        status = dwctl("cluster", "status", cluster=self.folder)
        shard = next(g for g in status["groups"] if g["kind"] == "shard")
        nodes = {n["id"]: n for n in status["nodes"]}
        leader = nodes[shard["leader"]]["name"]
        serving = next(n["name"] for n in nodes.values() if endpoints.serving.endswith(n["s3"]))
        if serving == leader:
            serving = next(n["name"] for n in nodes.values() if n["name"] != leader)
        endpoints.watching = True
        for name in (leader, serving):
            dwctl("dev", "kill", name, cluster=self.folder)
        self.console.print(f"  killed {leader} (leads the shard) and {serving} (serves the client)", highlight=False)
        return [leader, serving]

    def read(self, endpoints: Endpoints, digests: dict[str, tuple[str, int]], name: str) -> None:
        """Every byte back, compared by SHA-256."""
        before, started = endpoints.retries, time.monotonic()
        wrong: list[str] = []
        with self.progress(name, len(digests)) as step:

            def get(item: tuple[str, tuple[str, int]]) -> None:
                key, (digest, _) = item
                if endpoints.call(lambda s3: fetch_digest(s3, key)) != digest:
                    wrong.append(key)
                step()

            with ThreadPoolExecutor(WORKERS) as pool:
                list(pool.map(get, digests.items()))
        seconds = time.monotonic() - started
        total = sum(size for _, size in digests.values())
        self.phases.append(Phase(name, len(digests), total, seconds, endpoints.retries - before))
        self.check(f"{name}: every byte is the one written", not wrong, f"{len(wrong)} differ" if wrong else "")

    def wait_healed(self, since: float) -> float | None:
        """Seconds until a recount of the devices found every fragment; None if that never came."""
        deadline = time.monotonic() + HEAL_SECONDS
        with self.progress("heal", None):
            while time.monotonic() < deadline:
                found = dwctl("cluster", "verify", cluster=self.folder, check=False)
                whole = found.get("finished") and found["fragments_found"] == found["fragments_expected"] > 0
                if whole and not (found["blocks_degraded"] or found["blocks_unreadable"] or found["blocks_unknown"]):
                    return time.monotonic() - since
                time.sleep(0.5)
        self.console.print(f"  last recount: {found}", highlight=False)
        return None

    def delete(self, endpoints: Endpoints, digests: dict[str, tuple[str, int]]) -> None:
        before, started = endpoints.retries, time.monotonic()
        keys = list(digests)
        for start in range(0, len(keys), 500):
            batch = [{"Key": key} for key in keys[start : start + 500]]
            answer = endpoints.call(lambda s3, b=batch: s3.delete_objects(Bucket=BUCKET, Delete={"Objects": b}))
            if answer.get("Errors"):
                self.check("everything can be deleted", False, str(answer["Errors"][:3]))
        endpoints.call(lambda s3: s3.delete_bucket(Bucket=BUCKET))
        seconds = time.monotonic() - started
        self.phases.append(Phase("delete", len(keys), 0, seconds, endpoints.retries - before))
        left = [b["Name"] for b in endpoints.call(lambda s3: s3.list_buckets())["Buckets"]]
        self.check("the bucket is gone", BUCKET not in left)

    def table(self, endpoints: Endpoints, healed: float | None) -> None:
        table = Table(title="dwd demo: six nodes, rs-4-2, two killed", title_justify="left")
        for column in ("phase", "objects", "MiB", "seconds", "MB/s", "objects/s", "retries"):
            table.add_column(column, justify="left" if column == "phase" else "right")
        for p in self.phases:
            rate = f"{p.size / p.seconds / 1e6:.1f}" if p.size else "-"
            row = (
                p.name,
                str(p.objects),
                f"{p.size / 2**20:.1f}",
                f"{p.seconds:.1f}",
                rate,
                f"{p.objects / p.seconds:.0f}",
            )
            table.add_row(*row, str(p.errors))
        self.console.print(table)
        errors = sum(1 for _, good, _ in self.checks if not good)
        self.console.print(
            f"time to fail over (longest gap between two successful requests): {endpoints.longest_gap:.2f} s\n"
            f"time to full redundancy after the restart, recounted from the devices: "
            f"{'never' if healed is None else f'{healed:.1f} s'}\n"
            f"checks: {len(self.checks)}, failed: {errors}",
            highlight=False,
        )

    @contextmanager
    def progress(self, name: str, total: int | None) -> Iterator[Callable[[], None]]:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        interactive = self.console.is_terminal
        if not interactive:
            self.console.print(f"{name} ...", highlight=False)
        with Progress(*columns, console=self.console, disable=not interactive, transient=True) as progress:
            task = progress.add_task(name, total=total)
            yield lambda: progress.advance(task)


def fetch_digest(s3: Any, key: str) -> str:
    digest = hashlib.sha256()
    body = s3.get_object(Bucket=BUCKET, Key=key)["Body"]
    for chunk in body.iter_chunks(1024 * 1024):
        digest.update(chunk)
    return digest.hexdigest()


def real_files() -> Iterator[tuple[str, Path]]:
    """The standard library of the Python that runs this: (key, path), without caches and installed packages."""
    root = Path(sysconfig.get_path("stdlib"))
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if f not in {"site-packages", "dist-packages", "__pycache__"})
        for name in sorted(names):
            path = Path(folder) / name
            if path.is_file():
                yield f"stdlib/{path.relative_to(root)}", path


def sample(digests: dict[str, tuple[str, int]]) -> dict[str, tuple[str, int]]:
    chosen = random.Random(11).sample(sorted(digests), min(200, len(digests)))
    return {key: digests[key] for key in {*chosen, BIG_KEY}}


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, help="use this directory and keep it")
    options = parser.parse_args(list(arguments) if arguments is not None else None)
    folder = options.dir or Path(tempfile.mkdtemp(prefix="dwd-demo-"))
    demo = Demo(folder=folder, console=Console())
    good = False
    try:
        good = demo.run()
    finally:
        if (folder / "dev.json").exists():
            dwctl("dev", "down", "--dir", str(folder), cluster=folder, check=False)
        if good and options.dir is None:
            shutil.rmtree(folder, ignore_errors=True)
        elif options.dir is None:
            demo.console.print(f"kept for a look: {folder}", highlight=False)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
