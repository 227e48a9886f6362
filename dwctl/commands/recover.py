"""dwctl cluster recover: when a majority of a group's voters is gone for good."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from dwctl.context import learn
from dwctl.output import confirm, print_line
from dwctl.raft_page import epoch_name
from dwctl.session import ContextOption, JsonFlag, YesFlag, admin, as_document, output
from dwctl.tables import Column, Table, for_terminal, plain, table
from dwctl.text import when
from dwd.base.errors import Conflict, Unavailable

if TYPE_CHECKING:
    from dwd.pb.admin.v1 import consensus_pb2

app = typer.Typer(
    name="recover",
    help="Go on when a majority of a group's voters is gone for good. First `plan`, which changes nothing; then "
    "`apply` with its hash. Nodes that do not take part are fenced until they are wiped.",
    no_args_is_help=True,
)
APPLY_SECONDS = 900.0


@app.command(epilog="Example: dwctl cluster recover plan")
def plan(context: ContextOption = None, as_json: JsonFlag = False) -> None:
    """Ask every node that is left what it holds, and say what would be kept, what may be lost, and who is fenced."""
    with admin(context) as client:
        found = client.ask(client.raft.PlanRecovery, client.raft_pb.PlanRecoveryRequest())
    if as_json:
        print_line(json.dumps(as_document(found)))
        return
    show(found)
    output(as_json).note(
        "nothing was changed. If the nodes that are gone never come back: "
        f"dwctl cluster recover apply --hash {found.hash}"
    )


@app.command(epilog="Example: dwctl cluster recover apply --hash 3f0c... --dry-run")
def apply(
    plan_hash: Annotated[str, typer.Option("--hash", help="Of the plan, as `dwctl cluster recover plan` printed it.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan of now and whether it is that one.")
    ] = False,
    yes: YesFlag = False,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Carry a plan out, if nothing changed since. Broken off, it may be made again with the same hash."""
    sink = output(as_json)
    with admin(context) as client:
        if dry_run:
            found = client.ask(client.raft.PlanRecovery, client.raft_pb.PlanRecoveryRequest())
            if as_json:
                print_line(json.dumps(as_document(found)))
            else:
                show(found)
            if found.hash != plan_hash:
                raise Conflict(
                    "recover.stale",
                    f"the plan of now is {found.hash}, not {plan_hash}",
                    hint="what the survivors hold has changed since, or the hash is wrong: read the plan shown above",
                )
            return
        confirm("give up the voters that are gone, and fence their nodes for good?", yes=yes)
        last = client.raft_pb.RecoveryProgress()
        request = client.raft_pb.ApplyRecoveryRequest(hash=plan_hash)
        with sink.steps() as step:
            step("asking every node")
            for last in client.stream(client.raft.ApplyRecovery, request, seconds=APPLY_SECONDS):
                step(last.step)
        if last.finished and client.cluster is not None:
            learn(client.cluster, (), recovery_epoch=last.epoch)
    if not last.finished:
        raise Unavailable("recover.unfinished", "the recovery broke off", hint="make the same call again")
    groups = len(last.groups)
    sink.value(
        as_document(last),
        f"recovered: {groups} group{'s' if groups != 1 else ''} carried on, recovery epoch {epoch_name(last.epoch)}",
    )
    sink.note(
        "next: add nodes (`dwctl node join-token`), or wipe and start the old ones; members and fragments are made up "
        "by themselves: `dwctl raft status --watch`, `dwctl cluster verify`"
    )


@app.command(epilog="Example: dwctl cluster recover history --json")
def history(context: ContextOption = None, as_json: JsonFlag = False) -> None:
    """List the recoveries there were: when, by whom, who survived."""
    with admin(context) as client:
        found = client.ask(client.raft.ListRecoveries, client.raft_pb.ListRecoveriesRequest()).recoveries
    columns = (
        "epoch", "when", "by", Column(name="groups", is_number=True), Column(name="with losses", is_number=True),
        Column(name="survivors", is_number=True), Column(name="plan", rank=1),
    )  # fmt: skip
    rows = (
        (
            epoch_name(r.epoch), when(r.ordered_unix_ms), r.ordered_by, str(r.groups), str(r.groups_with_losses),
            str(len(r.survivors)), r.plan,
        )
        for r in found
    )  # fmt: skip
    output(as_json).table(table("recoveries", columns, rows), {"recoveries": [as_document(r) for r in found]})


def show(found: consensus_pb2.RecoveryPlan) -> None:
    """The plan for people: sentences first, a table of what each survivor holds, what may be lost, the hash."""
    sink = output(False)
    console = sink.console()
    groups, alive = len(found.groups), len(found.alive)
    print_line(f"{groups} group{'s' if groups != 1 else ''} without a quorum, {alive} with one")
    print_line(f"survivors: {_named(found.nodes)}")
    print_line(f"gone, and fenced until wiped: {_named(found.gone)}")
    made = _survivors(found)
    print_line("")
    if console.is_terminal:
        console.print(for_terminal(made, console.width))
    else:
        for line in plain_lines(made):
            print_line(line)
    print_line("")
    for group in found.groups:
        print_line(f"group {group.group} ({group.kind}): {verdict(group)}")
    print_line("")
    print_line(f"plan {found.hash}")


def plain_lines(made: Table) -> list[str]:
    return list(plain(made))


def verdict(group: consensus_pb2.LostGroup) -> str:
    """What is kept and what may be lost of one group."""
    if not group.chosen:
        return "no survivor holds its data: nothing of it can be saved"
    name = next((s.name or s.node for s in group.survivors if s.chosen), group.chosen)
    told = [f"{name} carries it on, its log ends at {group.kept_index}"]
    unsure = group.kept_index - group.committed_index
    if unsure > 0:
        told.append(
            f"entries {group.committed_index + 1}-{group.kept_index} are kept, though no survivor knows whether they "
            "were committed"
        )
    if group.committed_index > group.kept_index:
        told.append(f"entries {group.kept_index + 1}-{group.committed_index} were committed and are LOST")
    if group.losses_possible:
        told.append(
            f"what the voters that are gone committed after {max(group.kept_index, group.committed_index)} is lost; "
            "how much that is cannot be known"
        )
    else:
        told.append("nothing that was acknowledged can be missing: too few voters are gone for that")
    dropped = [
        f"{s.name or s.node} (to {s.last_index} of term {s.last_term})"
        for s in group.survivors
        if not s.chosen and (s.last_term, s.last_index) != _end(group) and s.last_index > group.committed_index
    ]
    if dropped:
        told.append(f"logs that differ at their ends are given up: {', '.join(dropped)}")
    return "; ".join(told)


def _end(group: consensus_pb2.LostGroup) -> tuple[int, int]:
    return next(((s.last_term, s.last_index) for s in group.survivors if s.chosen), (0, 0))


def _named(nodes: object) -> str:
    return ", ".join(sorted(n.name or n.id for n in nodes)) or "none"  # type: ignore[attr-defined]


def _survivors(found: consensus_pb2.RecoveryPlan) -> Table:
    columns = (
        Column(name="group", is_number=True), "node", Column(name="carries on", is_state=True),
        Column(name="last term", is_number=True), Column(name="last", is_number=True),
        Column(name="commit", is_number=True), Column(name="term", rank=2, is_number=True),
        Column(name="replica", rank=3, is_id=True), Column(name="remarks", rank=1),
    )  # fmt: skip
    rows = []
    for group in found.groups:
        for s in group.survivors:
            doubt = ["in doubt about the end of its log"] if s.tail_doubt else []
            remarks = "; ".join(([s.unfit] if s.unfit else []) + doubt) or "-"
            row = (str(group.group), s.name or s.node, "yes" if s.chosen else "no", str(s.last_term))
            rows.append((*row, str(s.last_index), str(s.commit_index), str(s.term), s.replica, remarks))
        for voter in group.voters:
            if not voter.survives:
                gone = (str(group.group), voter.name or voter.node, "gone", "-", "-", "-", "-", voter.replica, "-")
                rows.append(gone)
    return table("replicas", columns, rows)
