"""dwctl raft member: who votes and who listens in a group."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from dwctl import raft_page
from dwctl.commands.raft_status import ask_status
from dwctl.output import Output, confirm
from dwctl.session import ContextOption, GroupArgument, JsonFlag, YesFlag, admin, as_document, output
from dwctl.tables import table
from dwd.base.errors import Conflict, DeadlineExceeded

if TYPE_CHECKING:
    from dwctl.client import AdminClient
    from dwd.pb.admin.v1 import consensus_pb2

app = typer.Typer(
    name="member",
    help="Who votes and who listens in a group. A change pins the group: its members are then what operators say, "
    "until `dwctl raft member auto GROUP` leaves them to the cluster again.",
    no_args_is_help=True,
)
WAIT_SECONDS = 300.0
POLL_SECONDS = 0.3
NodeArgument = Annotated[str, typer.Argument(help="A node, by name or id.")]
WaitFlag = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Return when the members are what was said, or at once.")
]
DryRunFlag = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
ForceFlag = Annotated[
    bool, typer.Option("--force", help="Also when the group would then survive the loss of fewer nodes.")
]


@app.command("list", epilog="Example: dwctl raft member list 0")
def list_(group: GroupArgument, context: ContextOption = None, as_json: JsonFlag = False) -> None:
    """List a group's members and what each of them is."""
    with admin(context) as client:
        found = ask_status(client, [group])
    (shown,) = found.groups
    output(as_json).table(raft_page.members(found), as_document(shown))
    if shown.doing and not as_json:
        output(as_json).note(f"under way: {shown.doing}")


@app.command(epilog="Example: dwctl raft member add 1 n4 --role voter")
def add(
    group: GroupArgument,
    node: NodeArgument,
    role: Annotated[str, typer.Option(help="learner, voter or witness.")] = "learner",
    dry_run: DryRunFlag = False,
    force: ForceFlag = False,
    yes: YesFlag = False,
    wait: WaitFlag = True,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Give a node a replica of the group. It learns first; a voter is promoted once it has caught up."""
    _change("ADD", group, node, role, dry_run, force, yes, wait, context, as_json)


@app.command(epilog="Example: dwctl raft member promote 1 n4")
def promote(
    group: GroupArgument,
    node: NodeArgument,
    dry_run: DryRunFlag = False,
    force: ForceFlag = False,
    yes: YesFlag = False,
    wait: WaitFlag = True,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a learner a voter, once it has caught up."""
    _change("PROMOTE", group, node, "", dry_run, force, yes, wait, context, as_json)


@app.command(epilog="Example: dwctl raft member demote 1 n2")
def demote(
    group: GroupArgument,
    node: NodeArgument,
    dry_run: DryRunFlag = False,
    force: ForceFlag = False,
    yes: YesFlag = False,
    wait: WaitFlag = True,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Make a voter a learner: it keeps its copy and no longer counts. A leader hands over first."""
    _change("DEMOTE", group, node, "", dry_run, force, yes, wait, context, as_json)


@app.command(epilog="Example: dwctl raft member remove 1 n2 --dry-run")
def remove(
    group: GroupArgument,
    node: NodeArgument,
    dry_run: DryRunFlag = False,
    force: ForceFlag = False,
    yes: YesFlag = False,
    wait: WaitFlag = True,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Take a node's replica of the group away. A leader hands over first."""
    _change("REMOVE", group, node, "", dry_run, force, yes, wait, context, as_json)


@app.command(epilog="Example: dwctl raft member auto 1")
def auto(
    group: GroupArgument,
    dry_run: DryRunFlag = False,
    yes: YesFlag = False,
    wait: WaitFlag = True,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Let the cluster choose the members again, spread over zones."""
    _change("AUTO", group, "", "", dry_run, False, yes, wait, context, as_json)


def _change(
    verb: str, group: int, node: str, role: str, dry_run: bool, force: bool, yes: bool, wait: bool,
    context: str | None, as_json: bool,
) -> None:  # fmt: skip
    sink = output(as_json)
    with admin(context) as client:
        pb = client.raft_pb
        kind = pb.ChangeMembersRequest.Verb.Value(verb)
        request = pb.ChangeMembersRequest(group=group, verb=kind, node=node, role=role, force=force, dry_run=True)
        told = dry_run or not yes
        if told:
            plan = client.ask(client.raft.ChangeMembers, request)
            _show(client, plan, sink, dry_run=dry_run)
            if dry_run:
                return
            confirm(f"change the members of group {group}?", yes=yes)
        request.dry_run = False
        done = client.change(client.raft.ChangeMembers, request)
        if wait:
            _wait(client, done, sink)
    summary = f"group {group}: members are {'as pinned' if done.membership == 'pinned' else 'up to the cluster'}"
    sink.value(as_document(done), summary + ("" if wait else "; see `dwctl raft status`"))
    for remark in () if told else done.remarks:
        sink.note(remark)


def _show(client: AdminClient, plan: consensus_pb2.ChangeMembersReply, sink: Output, *, dry_run: bool) -> None:
    """The members there would be: as the answer of a dry run, else for whoever has to confirm."""
    names = raft_page.names_of(ask_status(client, [plan.group]))
    rows = [(names.get(member.node, member.node), member.role, member.node) for member in plan.wanted]
    if dry_run:
        sink.table(table("members", ("node", "role", "id"), rows), as_document(plan))
    else:
        told = ", ".join(f"{name} ({role})" for name, role, _ in rows)
        sink.note(f"group {plan.group} would be {plan.membership}: {told}")
    for remark in plan.remarks:
        sink.note(remark)


def _wait(client: AdminClient, done: consensus_pb2.ChangeMembersReply, sink: Output) -> None:
    """Until the group's leader has brought the members there. Raises DeadlineExceeded; Conflict when somebody changed
    them again.
    """
    wanted = {member.node: member.role for member in done.wanted}
    deadline = time.monotonic() + WAIT_SECONDS
    taken_up = False
    with sink.steps() as step:
        while True:
            (found,) = ask_status(client, [done.group]).groups
            there = {member.node: member.role for member in found.members}
            taken_up = taken_up or found.membership == done.membership
            if taken_up and found.membership not in {"", done.membership}:
                raise Conflict(
                    "raft.members_changed",
                    f"the members of group {done.group} were changed again meanwhile",
                    hint=f"see `dwctl raft member list {done.group}`",
                )
            arrived = done.membership == "auto" or (done.group == 0 and not found.doing) or there == wanted
            if taken_up and found.leader and not found.joint and not found.doing and arrived:
                return
            if time.monotonic() > deadline:
                raise DeadlineExceeded(
                    "raft.members_pending",
                    f"the members are not there yet: {found.doing or 'the group has no leader'}",
                    hint="the cluster goes on by itself; see `dwctl raft status --watch`",
                )
            step(found.doing or "waiting for the leader")
            time.sleep(POLL_SECONDS)
