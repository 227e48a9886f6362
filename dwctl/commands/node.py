"""dwctl node: the cluster's nodes, and tokens that let new ones in."""

from __future__ import annotations

from typing import Annotated

import typer

from dwctl.session import ContextOption, JsonFlag, admin, as_document, cluster_status, output
from dwctl.tables import Column, table
from dwctl.text import natural, when
from dwd.base.units import format_bytes, format_duration

app = typer.Typer(name="node", help="Nodes: list, and tokens that let new ones in.", no_args_is_help=True)


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
