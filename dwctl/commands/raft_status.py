"""dwctl raft status: once, or live."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from dwctl import raft_page
from dwctl.output import print_line
from dwctl.session import as_document, output
from dwctl.tables import plain

if TYPE_CHECKING:
    from dwctl.client import AdminClient
    from dwd.pb.admin.v1 import consensus_pb2

REFRESH_SECONDS = 1.0


def show_status(client: AdminClient, wanted: list[int], *, watch: bool, as_json: bool) -> None:
    """For people, pipes or scripts; with `watch` again and again."""
    console = output(as_json).console()
    if not as_json and console.is_terminal:
        if watch:
            watch_status(client, wanted)
        found = ask_status(client, wanted)
        console.print(raft_page.for_people(found, width=console.width, whole=bool(wanted)))
        return
    while True:
        found = ask_status(client, wanted)
        if as_json:
            print_line(json.dumps(as_document(found)))
        else:
            print_plain(found)
        if not watch:
            return
        time.sleep(REFRESH_SECONDS)


def ask_status(client: AdminClient, groups: list[int]) -> consensus_pb2.RaftStatusReply:
    return client.ask(client.raft.RaftStatus, client.raft_pb.RaftStatusRequest(groups=groups))


def watch_status(client: AdminClient, groups: list[int]) -> None:
    """Refresh in place until interrupted or the node asked goes away."""
    from rich.live import Live

    console = output(as_json=False).console()
    with Live(console=console, auto_refresh=False) as live:
        while True:
            found = ask_status(client, groups)
            page = raft_page.for_people(found, width=console.width, height=console.height - 1, whole=bool(groups))
            live.update(page, refresh=True)
            time.sleep(REFRESH_SECONDS)


def print_plain(found: consensus_pb2.RaftStatusReply) -> None:
    """For pipes: lines, then tab-separated tables, an empty line before each."""
    for line in (raft_page.title(found), *raft_page.reasons(found)):
        print_line(line)
    for made in raft_page.tables(found):
        print_line("")
        for line in plain(made):
            print_line(line)
