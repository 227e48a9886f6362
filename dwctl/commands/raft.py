"""dwctl raft: the consensus groups, seen and operated."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Annotated

import typer

from dwctl import raft_page
from dwctl.output import print_line
from dwctl.session import ContextOption, JsonFlag, admin, as_document, output
from dwctl.tables import plain

if TYPE_CHECKING:
    from dwctl.client import AdminClient
    from dwd.pb.admin.v1 import consensus_pb2

app = typer.Typer(name="raft", help="The consensus groups: status.", no_args_is_help=True)
REFRESH_SECONDS = 1.0
GroupsArgument = Annotated[
    list[int] | None, typer.Argument(metavar="[GROUP]...", help="Only these groups, each in full. 0 is control.")
]


@app.command(epilog="Example: dwctl raft status 1 --watch")
def status(
    groups: GroupsArgument = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh until interrupted.")] = False,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show groups with leader, members, progress, log, snapshots on their way, and what is wrong."""
    with admin(context) as client:
        console = output(as_json).console()
        wanted = groups or []
        if as_json or not console.is_terminal:
            while True:
                found = ask_status(client, wanted)
                if as_json:
                    print_line(json.dumps(as_document(found)))
                else:
                    print_plain(found)
                if not watch:
                    return
                time.sleep(REFRESH_SECONDS)
        if not watch:
            found = ask_status(client, wanted)
            console.print(raft_page.for_people(found, width=console.width, whole=bool(wanted)))
        else:
            watch_status(client, wanted)


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
