"""dwctl raft: the consensus groups, seen and operated."""

from __future__ import annotations

from typing import Annotated

import typer

from dwctl.commands import raft_member
from dwctl.commands.raft_status import ask_status, show_status
from dwctl.raft_page import names_of
from dwctl.session import GROUP_MAX, ContextOption, GroupArgument, JsonFlag, admin, as_document, output
from dwctl.tables import Column, table
from dwd.base.errors import DwError
from dwd.base.units import format_bytes

app = typer.Typer(name="raft", help="The consensus groups: status, member, transfer, compact.", no_args_is_help=True)
app.add_typer(raft_member.app)
GroupsArgument = Annotated[
    list[int] | None,
    typer.Argument(min=0, max=GROUP_MAX, metavar="[GROUP]...", help="Only these groups, each in full. 0 is control."),
]


@app.command(epilog="Example: dwctl raft status 1 --watch")
def status(
    groups: GroupsArgument = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Refresh until interrupted.")] = False,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show groups with leader, members, progress, log, snapshots on their way, and what is wrong."""
    show_status(context, groups or [], watch=watch, as_json=as_json)


@app.command(epilog="Example: dwctl raft transfer 1 --to n3")
def transfer(
    group: GroupArgument,
    to: Annotated[str, typer.Option(help="The voter that is to lead, by name or id; default: the fittest.")] = "",
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Hand a group's leadership to another voter; returns once that one leads."""
    with admin(context) as client:
        request = client.raft_pb.TransferLeadershipRequest(group=group, node=to)
        done = client.change(client.raft.TransferLeadership, request)
        names = names_of(ask_status(client, [group]))
    leader = names.get(done.leader, done.leader)
    if done.leader == done.previous:
        told = f"group {group} was led by {leader} already"
    else:
        previous = names.get(done.previous, done.previous)
        told = f"group {group} is led by {leader}, was by {previous}; it took {done.seconds * 1000:.0f} ms"
    output(as_json).value(as_document(done), told)


@app.command(epilog="Example: dwctl raft compact 0 --node n2")
def compact(
    group: GroupArgument,
    node: Annotated[str, typer.Option(help="Only on this node, by name or id.")] = "",
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Cut a group's log now, as far as its state is durable and its followers have read it."""
    with admin(context) as client:
        done = client.change(client.raft.CompactGroup, client.raft_pb.CompactGroupRequest(group=group, node=node)).nodes
        names = names_of(ask_status(client, [group]))
    columns = (
        "node",
        Column(name="entries cut", is_number=True),
        Column(name="bytes cut", is_number=True),
        Column(name="log begins at", rank=1, is_number=True),
        Column(name="applied", rank=1, is_number=True),
        "error",
    )
    rows = (
        (
            names.get(n.node, n.node), f"{n.entries_removed:,}", format_bytes(n.bytes_removed), str(n.first_index),
            str(n.applied_index), n.error or "-",
        )
        for n in done
    )  # fmt: skip
    output(as_json).table(table("replicas", columns, rows), {"nodes": [as_document(n) for n in done]})
    failed = [n for n in done if n.error]
    if failed:
        raise DwError(
            "raft.compact_failed",
            f"not on {', '.join(sorted(names.get(n.node, n.node) for n in failed))}: {failed[0].error}",
            hint=f"see `dwctl raft status {group}`, then try again",
        )
