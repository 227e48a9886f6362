"""dwctl cluster: the state of the whole, and a recount of what is stored."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from dwctl import status_page
from dwctl.commands import recover
from dwctl.output import print_line
from dwctl.session import ContextOption, JsonFlag, admin, as_document, cluster_status, output
from dwctl.tables import plain
from dwctl.watching import follow, show
from dwd.base.errors import DwError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dwd.pb.admin.v1 import admin_pb2

app = typer.Typer(name="cluster", help="The cluster as a whole: status, verify, recover.", no_args_is_help=True)
app.add_typer(recover.app)


@app.command()
def status(
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh until interrupted.")] = False,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show health, nodes, groups with their leaders, devices, and what is not fully redundant."""
    console = output(as_json).console()
    if watch and console.is_terminal and not as_json:

        def page(found: admin_pb2.ClusterStatusReply, height: int) -> RenderableType:
            return status_page.for_people(found, width=console.width, height=height)

        show(console, follow(lambda: admin(context), cluster_status), page)
        return
    with admin(context) as client:
        found = cluster_status(client)
    if as_json:
        print_line(json.dumps(as_document(found)))
    elif console.is_terminal:
        console.print(status_page.for_people(found, width=console.width))
    else:
        print_plain(found)


def print_plain(found: admin_pb2.ClusterStatusReply) -> None:
    """For pipes: lines, then tab-separated tables, an empty line before each."""
    for line in (status_page.title(found), *status_page.head(found), *status_page.reasons(found)):
        print_line(line)
    for made in status_page.tables(found):
        print_line("")
        for line in plain(made):
            print_line(line)


@app.command()
def verify(
    pages: Annotated[bool, typer.Option("--pages", help="Read and check every fragment, not only ask for it.")] = False,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Recount redundancy from the devices; exit 1 unless every fragment that should exist does."""
    sink = output(as_json)
    with admin(context) as client, sink.progress(unit="blocks") as progress:
        task = progress.add_task("recount", total=None)
        last = client.pb.RecountProgress()
        for last in client.stream(client.stub.Recount, client.pb.RecountRequest(verify_pages=pages)):
            progress.update(task, completed=last.blocks_done, total=last.blocks_total)
    if not last.finished:
        raise DwError("recount.unfinished", "the recount broke off", hint="run it again; see `dwctl cluster status`")
    sink.value(
        as_document(last),
        f"{last.blocks_done:,} blocks: {last.fragments_found:,} of {last.fragments_expected:,} fragments found, "
        f"{last.fragments_bad:,} bad\n"
        f"{last.blocks_degraded:,} blocks not fully redundant, {last.blocks_unreadable:,} unreadable, "
        f"{last.blocks_unknown:,} not known (a device did not answer)",
    )
    if last.blocks_degraded or last.blocks_unreadable or last.blocks_unknown:
        raise typer.Exit(1)
