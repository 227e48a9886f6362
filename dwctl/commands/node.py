"""dwctl node: the cluster's nodes, and tokens that let new ones in."""

from __future__ import annotations

from typing import Annotated

import typer

from dwctl.session import ContextOption, JsonFlag, admin, as_document, output
from dwctl.text import when
from dwd.base.units import format_bytes, format_duration

app = typer.Typer(name="node", help="Nodes.", no_args_is_help=True)


@app.command("list")
def list_(context: ContextOption = None, as_json: JsonFlag = False) -> None:
    """List the nodes with where they are and how they do."""
    with admin(context) as client:
        found = client.call(client.stub.ClusterStatus, client.pb.ClusterStatusRequest()).nodes
    output(as_json).table(
        "Nodes",
        ("id", "name", "state", "zone", "grpc", "s3", "memory", "up", "version"),
        (
            (
                n.id,
                n.name,
                n.state,
                n.zone,
                n.grpc,
                n.s3,
                format_bytes(n.memory_bytes) if n.memory_bytes else "-",
                format_duration(n.uptime_seconds) if n.uptime_seconds else "-",
                n.version or "-",
            )
            for n in found
        ),
        {"nodes": [as_document(n) for n in found]},
    )


@app.command("join-token")
def join_token(
    minutes: Annotated[int, typer.Option(min=1, max=1_440, help="How long it is good for.")] = 60,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a token for one new node: run `dwd join TOKEN` there."""
    with admin(context) as client:
        reply = client.call(client.stub.CreateJoinToken, client.pb.CreateJoinTokenRequest(minutes=minutes))
    sink = output(as_json)
    sink.value(as_document(reply), reply.token)
    sink.note(f"good for one node until {when(reply.expires_unix_ms)}; on the new node: dwd join TOKEN --config FILE")
