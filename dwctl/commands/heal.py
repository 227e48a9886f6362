"""dwctl heal: what is being repaired and moved, why, how fast."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from dwctl import heal_page
from dwctl.output import print_line
from dwctl.session import STATUS_SECONDS, ContextOption, JsonFlag, admin, as_document, output
from dwctl.tables import plain
from dwctl.watching import follow, show
from dwd.base.errors import DwError, InvalidArgument
from dwd.base.units import format_bytes, parse_bytes

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dwctl.client import AdminClient
    from dwd.pb.admin.v1 import heal_pb2

app = typer.Typer(name="heal", help="Repair and rebalance: status, list, retry, pace.", no_args_is_help=True)


@app.command(epilog="Example: dwctl heal status --watch")
def status(
    watch: Annotated[bool, typer.Option("--watch", help="Go on showing it until interrupted.")] = False,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what is to be repaired or moved, how exposed it is, how fast it goes and what is parked."""
    console = output(as_json).console()
    on_terminal = console.is_terminal and not as_json
    most = 0

    def page(found: heal_pb2.HealStatusReply, height: int | None) -> RenderableType:
        nonlocal most
        most = max(most, found.todo_bytes) if watch else 0
        now_ms = int(time.time() * 1000)
        return heal_page.for_people(found, now_ms=now_ms, width=console.width, height=height, most_bytes=most)

    if watch:
        answers = follow(lambda: admin(context), ask_status)
        if on_terminal:
            show(console, answers, page)
        _print_each(answers, as_json=as_json)
        return
    with admin(context) as client:
        found = ask_status(client)
    if on_terminal:
        console.print(page(found, None))
    else:
        _print_status(found, as_json=as_json)


def ask_status(client: AdminClient) -> heal_pb2.HealStatusReply:
    return client.ask(client.healing.HealStatus, client.heal_pb.HealStatusRequest(), seconds=STATUS_SECONDS)


def _print_each(answers: Iterator[heal_pb2.HealStatusReply | DwError], *, as_json: bool) -> None:
    for answer in answers:
        if isinstance(answer, DwError):
            output(as_json).error(answer)
        else:
            _print_status(answer, as_json=as_json)


def _print_status(found: heal_pb2.HealStatusReply, *, as_json: bool) -> None:
    if as_json:
        print_line(json.dumps(as_document(found)))
        return
    now_ms = int(time.time() * 1000)
    for line in (heal_page.title(found), *found.alarms, *heal_page.lines(found, now_ms)):
        print_line(line)
    made = [heal_page.classes(found), heal_page.nodes(found), heal_page.devices(found)]
    for each in (*made, heal_page.parked(found)) if found.parked else made:
        print_line("")
        for line in plain(each):
            print_line(line)


@app.command("list", epilog="Example: dwctl heal list --state parked --bucket photos")
def list_(
    state: Annotated[str, typer.Option(help="Only done, parked or failed ones.")] = "",
    cause: Annotated[str, typer.Option(help="Only missing, dead, loan, weaker or rebalance.")] = "",
    bucket: Annotated[str, typer.Option(help="Only blocks of this bucket.")] = "",
    block: Annotated[str, typer.Option(help="Only this block.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="At most so many, the newest.")] = 50,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """List repairs and moves from the nodes' ledgers: what was done to which block, why, and how it ended."""
    with admin(context) as client:
        known = client.ask(client.stub.ClusterStatus, client.pb.ClusterStatusRequest(), seconds=STATUS_SECONDS).nodes
        request = client.heal_pb.ListRepairsRequest(state=state, cause=cause, bucket=bucket, block=block, limit=limit)
        found = client.ask(client.healing.ListRepairs, request, seconds=STATUS_SECONDS)
    sink = output(as_json)
    sink.table(heal_page.repairs(found, {n.id: n.name for n in known}), as_document(found))
    if found.unreachable:
        sink.note(f"not heard: {', '.join(found.unreachable)}")


@app.command(epilog="Example: dwctl heal retry --all")
def retry(
    block: Annotated[str, typer.Argument(help="A parked block, as `dwctl heal status` shows it.")] = "",
    all_: Annotated[bool, typer.Option("--all", help="Every parked block.")] = False,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Try parked blocks again now, instead of after their rest."""
    if bool(block) == all_:
        raise InvalidArgument("heal.which", "say which block, or --all")
    with admin(context) as client:
        reply = client.change(client.healing.RetryRepairs, client.heal_pb.RetryRepairsRequest(block=block))
    missing = f"; not heard: {', '.join(reply.unreachable)}" if reply.unreachable else ""
    output(as_json).value(as_document(reply), f"{reply.retried} blocks are tried again{missing}")


@app.command(epilog="Example: dwctl heal pace 50MiB; dwctl heal pace auto --objective 15")
def pace(
    rate: Annotated[
        str, typer.Argument(help="Bytes a second and device (like 50MiB), or auto: by what clients wait.")
    ] = "",
    objective: Annotated[
        int | None, typer.Option(min=1, max=2**31 - 1, help="Minutes that a block may be one loss from unreadable.")
    ] = None,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show or set how fast all nodes repair and move, and the exposure objective."""
    wanted = None if not rate else rate if rate == "auto" else str(parse_bytes(rate))
    with admin(context) as client:
        request = client.heal_pb.SetHealingRequest(pace=wanted, exposure_minutes=objective)
        reply = client.change(client.healing.SetHealing, request)
    told = "by what clients wait" if reply.pace == "auto" else f"{format_bytes(int(reply.pace))}/s a device"
    output(as_json).value(as_document(reply), f"pace: {told}; exposure objective: {reply.exposure_minutes} min")
