"""The live view of `dwctl dev run`: what the cluster does, refreshed every second."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from dwctl import status_page
from dwctl.context import read_cluster
from dwctl.dev import processes
from dwctl.dev.layout import DevFolder
from dwctl.output import Output, print_line
from dwctl.session import cluster_status, connected
from dwctl.watching import REFRESH_SECONDS
from dwd.base.errors import DwError
from dwd.base.units import format_bytes

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

RATE_SAMPLES = 6
"""Seconds over which the rate of stored bytes is taken."""


def watch(folder: DevFolder, document: dict[str, Any]) -> None:
    """Show the cluster until interrupted, or until all its daemons were stopped by somebody else. Where output is not a
    terminal the endpoint is printed, and nothing after it.
    """
    names = [node["name"] for node in document["nodes"]]
    console = Output().console()
    lines = endpoint_lines(document)
    if not console.is_terminal:
        for line in lines:
            print_line(line)
        while running(folder, names):
            time.sleep(REFRESH_SECONDS)
        return
    from rich.live import Live

    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while running(folder, names):
            try:
                _follow(folder, names, live, console, lines)
            except DwError as error:
                live.update("\n".join([*lines, "", f"no status: {error.message}"]), refresh=True)
                time.sleep(REFRESH_SECONDS)


def endpoint_lines(document: dict[str, Any]) -> list[str]:
    """What a client needs."""
    s3 = document["s3"]
    return [
        f"S3 endpoint  {s3['endpoint']}   (region {s3['region']})",
        f"access key   {s3['access_key']}",
        f"secret key   {s3['secret_key']}",
    ]


def running(folder: DevFolder, names: list[str]) -> bool:
    return any(processes.live_pid(folder, name) is not None for name in names)


def _follow(folder: DevFolder, names: list[str], live: Live, console: Console, lines: list[str]) -> None:
    """Refresh from one node as long as it answers. Raises DwError when it does not."""
    from rich.console import Group

    samples: deque[tuple[float, int]] = deque(maxlen=RATE_SAMPLES)
    with connected(read_cluster(folder.cluster)) as client:
        while running(folder, names):
            found = cluster_status(client)
            samples.append((time.monotonic(), found.usage.bytes))
            head = [*lines, f"{rate(samples)} being stored   Ctrl-C stops the cluster, the data stays", ""]
            height = console.height - len(head) - 1
            page = status_page.for_people(found, width=console.width, height=height)
            live.update(Group(*head, page), refresh=True)
            time.sleep(REFRESH_SECONDS)


def rate(samples: deque[tuple[float, int]]) -> str:
    """Growth of the stored bytes over the samples (seconds, bytes), a second."""
    (start, first), (end, last) = samples[0], samples[-1]
    return f"{format_bytes(int(max(0, last - first) / (end - start)) if end > start else 0)}/s"
