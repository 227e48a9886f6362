"""dwctl cluster: the state of the whole, and a recount of what is stored."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from dwctl import status_page
from dwctl.commands import recover
from dwctl.jobs import concluded, follow_job, start_job
from dwctl.output import print_line
from dwctl.session import ContextOption, JsonFlag, admin, as_document, cluster_status, output
from dwctl.tables import plain
from dwctl.watching import follow, show

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
    """Recount redundancy from the devices; exit 1 unless every fragment that should exist does.

    It is a job: a node that goes away meanwhile is replaced, and an interrupt leaves it to end by itself.
    """
    sink = output(as_json)
    with admin(context) as client:
        job = start_job(client, "cluster.verify", {"pages": "yes" if pages else "no"}, as_json=as_json)
        ended = follow_job(client, job, as_json=as_json)
    if ended.state != "done":
        concluded(ended, sink)
    found = json.loads(ended.result)
    sink.value(
        found,
        f"{found['blocks_done']:,} blocks: {found['fragments_found']:,} of {found['fragments_expected']:,} fragments "
        f"found, {found['fragments_bad']:,} bad\n"
        f"{found['blocks_degraded']:,} blocks not fully redundant, {found['blocks_unreadable']:,} unreadable, "
        f"{found['blocks_unknown']:,} not known (a device did not answer)",
    )
    if found["blocks_degraded"] or found["blocks_unreadable"] or found["blocks_unknown"]:
        raise typer.Exit(1)
