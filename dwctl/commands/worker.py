"""dwctl worker: background work, seen and tuned."""

from __future__ import annotations

from typing import Annotated

import typer

from dwctl.session import ContextOption, JsonFlag, admin, as_document, output
from dwctl.tables import Column, table
from dwctl.text import natural
from dwd.base.errors import InvalidArgument, NotFound

app = typer.Typer(name="worker", help="Background work (repair, collection, layout): list, set.", no_args_is_help=True)


@app.command("list")
def list_(
    node: Annotated[str | None, typer.Option(help="Only this node (id or name).")] = None,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """List the workers of every node."""
    with admin(context) as client:
        known = client.ask(client.stub.ClusterStatus, client.pb.ClusterStatusRequest()).nodes
        found = list(client.ask(client.stub.ListWorkers, client.pb.ListWorkersRequest()).workers)
    names = {n.id: n.name for n in known}
    if node is not None:
        if node not in names and node not in names.values():
            raise NotFound("dwctl.no_such_node", f"no node {node!r}", hint="`dwctl node list` shows the nodes")
        found = [w for w in found if node in {w.node, names.get(w.node)}]
    columns = (
        "node",
        "worker",
        Column(name="state", is_state=True),
        Column(name="runs", rank=2, is_number=True),
        Column(name="pace", rank=3, is_number=True),
        "last error",
    )
    rows = sorted(
        ((names.get(w.node, w.node), w.name, w.state, str(w.runs), f"{w.pace:g}", w.last_error or "-") for w in found),
        key=lambda row: (natural(row[0]), row[1]),
    )
    output(as_json).table(table("workers", columns, rows), {"workers": [as_document(w) for w in found]})


@app.command("set")
def set_(
    name: Annotated[str, typer.Argument(help="The worker, as `dwctl worker list` names it.")],
    pause: Annotated[bool | None, typer.Option("--pause/--resume", help="Stop or restart it.")] = None,
    pace: Annotated[float | None, typer.Option(min=0.0, help="Seconds of rest for each second of work.")] = None,
    node: Annotated[str, typer.Option(help="Only on this node (id or name).")] = "",
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Pause, resume or slow a worker until the daemon restarts."""
    if pause is None and pace is None:
        raise InvalidArgument("worker.nothing_to_set", "nothing to set", hint="say --pause, --resume or --pace SECONDS")
    with admin(context) as client:
        reply = client.change(
            client.stub.SetWorker, client.pb.SetWorkerRequest(name=name, node=node, paused=pause, pace=pace)
        )
    output(as_json).value(
        as_document(reply), f"changed {name} on {reply.changed} node{'s' if reply.changed != 1 else ''}"
    )
