"""The live view of `dwctl dev run`: what the cluster does, refreshed every second."""

from __future__ import annotations

import time
from typing import Any

from dwctl.commands.cluster import REFRESH_SECONDS, render
from dwctl.context import read_cluster
from dwctl.dev.layout import DevFolder
from dwctl.output import Output
from dwctl.session import connected
from dwd.base.errors import DwError
from dwd.base.units import format_bytes


def watch(folder: DevFolder, document: dict[str, Any]) -> None:
    """Show the cluster until interrupted; on something that is not a terminal, one line and then silence."""
    sink = Output()
    s3 = document["s3"]
    head = f"endpoint {s3['endpoint']}   region {s3['region']}\naccess key {s3['access_key']}   secret key {s3['secret_key']}"
    console = sink.console()
    console.print(head, highlight=False, markup=False)
    if not console.is_terminal:
        while True:
            time.sleep(REFRESH_SECONDS)
    from rich.console import Group
    from rich.live import Live

    before: tuple[float, int] | None = None
    with Live(head, console=console, refresh_per_second=4) as live:
        while True:
            try:
                with connected(read_cluster(folder.cluster)) as client:
                    found = client.call(client.stub.ClusterStatus, client.pb.ClusterStatusRequest())
                now = (time.monotonic(), found.usage.bytes)
                rate = max(0.0, (now[1] - before[1]) / (now[0] - before[0])) if before else 0.0
                before = now
                live.update(Group(head, f"stored {format_bytes(int(rate))}/s   Ctrl-C stops", render(found)))
            except DwError as error:
                live.update(Group(head, f"[red]no status: {error}[/]"))
            time.sleep(REFRESH_SECONDS)
