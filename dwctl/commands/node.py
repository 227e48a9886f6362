"""dwctl node: the cluster's nodes, tokens that let new ones in, and jobs by which they leave."""

from __future__ import annotations

from typing import Annotated

import typer

from dwctl.jobs import DryRunFlag, ForceFlag, WaitFlag, run_job
from dwctl.session import ContextOption, JsonFlag, YesFlag, admin, as_document, cluster_status, output
from dwctl.tables import Column, table
from dwctl.text import natural, when
from dwd.base.units import format_bytes, format_duration

app = typer.Typer(name="node", help="Nodes: list, let in, drain, replace, remove.", no_args_is_help=True)

NodeArgument = Annotated[str, typer.Argument(metavar="NODE", help="Its name or id.")]


@app.command("list")
def list_(context: ContextOption = None, as_json: JsonFlag = False) -> None:
    """List the nodes with where they are and how they do."""
    with admin(context) as client:
        found = cluster_status(client).nodes
    columns = (
        "name",
        Column(name="id", is_id=True),
        Column(name="state", is_state=True),
        Column(name="standing", is_state=True),
        Column(name="zone", rank=2),
        Column(name="grpc", rank=3),
        Column(name="s3", rank=1),
        Column(name="memory", rank=4, is_number=True),
        Column(name="uptime", rank=2, is_number=True),
        Column(name="version", rank=3),
    )
    rows = (
        (
            n.name,
            n.id,
            n.state,
            n.standing or "-",
            n.zone or "-",
            n.grpc,
            n.s3,
            format_bytes(n.memory_bytes) if n.memory_bytes else "-",
            format_duration(n.uptime_seconds) if n.uptime_seconds else "-",
            n.version or "-",
        )
        for n in sorted(found, key=lambda n: natural(n.name))
    )
    output(as_json).table(table("nodes", columns, rows), {"nodes": [as_document(n) for n in found]})


@app.command("join-token")
def join_token(
    minutes: Annotated[int, typer.Option(min=1, max=1_440, help="How long it is good for.")] = 60,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a token for one new node: run `dwd join TOKEN` there."""
    with admin(context) as client:
        reply = client.change(client.stub.CreateJoinToken, client.pb.CreateJoinTokenRequest(minutes=minutes))
    sink = output(as_json)
    sink.value(as_document(reply), reply.token)
    sink.note(
        f"good for one node until {when(reply.expires_unix_ms)}\n"
        "next, on the new node: dwd join TOKEN --config FILE, then dwd run --config FILE"
    )


@app.command()
def drain(
    node: NodeArgument,
    dry_run: DryRunFlag = False,
    yes: YesFlag = False,
    wait: WaitFlag = True,
    force: ForceFlag = False,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Empty a node: its votes and its data go to others, and it serves clients on. Cancelling takes it back."""
    with admin(context) as client:
        run_job(client, "node.drain", {"node": node}, dry_run=dry_run, yes=yes, wait=wait, force=force, as_json=as_json)


@app.command()
def undrain(
    node: NodeArgument,
    dry_run: DryRunFlag = False,
    yes: YesFlag = False,
    wait: WaitFlag = True,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Take a node back that was drained: votes and data come to it again."""
    with admin(context) as client:
        run_job(client, "node.undrain", {"node": node}, dry_run=dry_run, yes=yes, wait=wait, as_json=as_json)


@app.command()
def replace(
    old: Annotated[str, typer.Argument(metavar="OLD", help="The node that leaves, up or dead: its name or id.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The node that takes its place: its name or id.")],
    dry_run: DryRunFlag = False,
    yes: YesFlag = False,
    wait: WaitFlag = True,
    force: ForceFlag = False,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Put a new node in the place of another, which is then removed. What a dead one held is rebuilt."""
    with admin(context) as client:
        run_job(
            client, "node.replace", {"node": old, "successor": new},
            dry_run=dry_run, yes=yes, wait=wait, force=force, as_json=as_json,
        )  # fmt: skip


@app.command()
def remove(
    node: NodeArgument,
    dry_run: DryRunFlag = False,
    yes: YesFlag = False,
    wait: WaitFlag = True,
    force: ForceFlag = False,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Remove a node that is drained, or dead for good: its certificate is refused from then on."""
    with admin(context) as client:
        run_job(
            client, "node.remove", {"node": node}, dry_run=dry_run, yes=yes, wait=wait, force=force, as_json=as_json
        )
