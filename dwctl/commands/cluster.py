"""dwctl cluster: the state of the whole, and a recount of what is stored."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from dwctl.session import ContextOption, JsonFlag, admin, as_document, output
from dwd.base.errors import DwError
from dwd.base.units import format_bytes

if TYPE_CHECKING:
    from rich.console import Group

    from dwd.pb.admin.v1 import admin_pb2

app = typer.Typer(name="cluster", help="The cluster as a whole.", no_args_is_help=True)
REFRESH_SECONDS = 1.0
_COLOURS = {"healthy": "green", "degraded": "yellow", "unavailable": "red", "up": "green", "active": "green"}


@app.command()
def status(
    watch: Annotated[bool, typer.Option("--watch", help="Refresh until interrupted.")] = False,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show health, nodes, groups with their leaders, devices, and what is not fully redundant."""
    with admin(context) as client:
        request = client.pb.ClusterStatusRequest()
        found = client.call(client.stub.ClusterStatus, request)
        if as_json:
            output(as_json).table("", (), (), as_document(found))
            return
        console = output(as_json).console()
        if not watch:
            console.print(render(found))
            return
        from rich.live import Live

        with Live(render(found), console=console, screen=False) as live:
            while True:
                time.sleep(REFRESH_SECONDS)
                live.update(render(client.call(client.stub.ClusterStatus, request)))


@app.command()
def verify(
    pages: Annotated[bool, typer.Option("--pages", help="Read and check every fragment, not only ask for it.")] = False,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Recount redundancy from the devices; exit 1 unless every fragment that should exist does."""
    sink = output(as_json)
    with admin(context) as client, sink.progress() as progress:
        task = progress.add_task("recount", total=None)
        last = client.pb.RecountProgress()
        for last in client.stream(client.stub.Recount, client.pb.RecountRequest(verify_pages=pages)):
            progress.update(task, completed=last.blocks_done, total=last.blocks_total)
    if not last.finished:
        raise DwError("recount.unfinished", "the recount broke off", hint="run it again; see `dwctl cluster status`")
    sink.value(
        as_document(last),
        f"{last.blocks_done} blocks, {last.fragments_found}/{last.fragments_expected} fragments found, {last.fragments_bad} bad, "
        f"{last.blocks_degraded} blocks degraded, {last.blocks_unreadable} unreadable, {last.blocks_unknown} not known",
    )
    if last.blocks_degraded or last.blocks_unreadable or last.blocks_unknown:
        raise typer.Exit(1)


def render(found: admin_pb2.ClusterStatusReply) -> Group:
    """The status page."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table

    colour = _COLOURS.get(found.health, "yellow")
    redundancy = found.redundancy
    head = (
        f"[bold]{escape(found.cluster_name or found.cluster_id)}[/] is [{colour}]{found.health}[/]   "
        f"{found.usage.objects} objects, {format_bytes(found.usage.bytes)} in {found.usage.buckets} buckets   "
        f"blocks: {redundancy.blocks}, not fully redundant {redundancy.blocks_degraded}, one loss from unreadable "
        f"{redundancy.blocks_at_risk}, to collect {redundancy.gc_pending}"
    )
    names = {n.id: n.name for n in found.nodes}
    nodes = Table(
        "node", "id", "state", "zone", "grpc", "s3", "memory", "loop lag", title="Nodes", title_justify="left"
    )
    for n in found.nodes:
        state = f"[{_COLOURS.get(n.state, 'red')}]{n.state}[/]"
        lag = f"{n.loop_lag_seconds * 1000:.0f} ms"
        nodes.add_row(n.name, n.id, state, n.zone, n.grpc, n.s3, format_bytes(n.memory_bytes), lag)
    groups = Table("group", "leader", "term", "applied", "log", "members", title="Raft groups", title_justify="left")
    for g in found.groups:
        members = ", ".join(
            f"{names.get(m.node, m.node)}"
            + ("" if m.role == "voter" else f" ({m.role})")
            + ("" if _well(m) else f" [red]{m.state}[/]")
            for m in g.members
        )
        leader = names.get(g.leader, g.leader) or "[red]none[/]"
        groups.add_row(
            f"{g.group} {g.kind}", leader, str(g.term), str(g.applied_index), format_bytes(g.log_bytes), members
        )
    devices = Table(
        "device", "node", "state", "used", "free", "fragments", "why", title="Devices", title_justify="left"
    )
    for d in found.devices:
        state = f"[{_COLOURS.get(d.state, 'red')}]{d.state}[/]"
        used, free = format_bytes(d.used_bytes), format_bytes(d.free_bytes)
        devices.add_row(d.id, names.get(d.node, d.node), state, used, free, str(d.fragments), escape(d.reason))
    return Group(head, *(f"  [yellow]- {escape(r)}[/]" for r in found.reasons), nodes, groups, devices)


def _well(member: admin_pb2.MemberInfo) -> bool:
    return member.leader or member.state in {"leader", "replicate"}
