"""dwctl layout: which devices hold what, and changing that knowingly."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from dwctl import layout_page
from dwctl.output import Output, confirm, print_line
from dwctl.session import ContextOption, JsonFlag, YesFlag, admin, as_document, output
from dwd.base.errors import Conflict, InvalidArgument

if TYPE_CHECKING:
    from dwctl.client import AdminClient
    from dwd.pb.admin.v1 import layout_pb2

app = typer.Typer(name="layout", help="Which devices hold what: show, plan, apply, revert, auto.", no_args_is_help=True)
PLAN_SECONDS = 300.0
"""A thousand nodes of ten devices take minutes."""
HASH_CHARACTERS_MIN = 8
_ADDED = re.compile(r"(?P<name>[^@:/]+)(@(?P<zone>[^:/]*)(/(?P<rack>[^:]*))?)?(:(?P<weight>\d+)(x(?P<devices>\d+))?)?")

ForceFlag = Annotated[
    bool, typer.Option("--force", help="Also when fewer losses would be survived than the profiles promise.")
]


@app.command(epilog="Example: dwctl layout show --profile rs-6-3")
def show(
    profile: Annotated[str, typer.Option(help="Count slots over this profile's fragments.")] = "",
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show which share of the data each device is to hold, and which layouts blocks still lie by."""
    with admin(context) as client:
        request = client.layout_pb.ShowLayoutRequest(profile=profile)
        view = client.ask(client.layouts.ShowLayout, request)
    sink = output(as_json)
    for line in layout_page.head(view):
        sink.note(line)
    sink.table(layout_page.devices(view, tree=sys.stdout.isatty()), as_document(view))
    if not as_json and len(view.epochs) > 1:
        print_line("")
        sink.table(layout_page.epochs(view), {})


@app.command(epilog="Example: dwctl layout plan --add-node n7@zone-b:1000")
def plan(
    add_node: Annotated[
        list[str] | None,
        typer.Option(
            help="What if this node were there: NAME, then @ZONE/RACK and :WEIGHTxDEVICES as needed; may be repeated."
        ),
    ] = None,
    remove_node: Annotated[list[str] | None, typer.Option(help="What if this node (name or id) were gone.")] = None,
    remove_device: Annotated[list[str] | None, typer.Option(help="What if this device were gone.")] = None,
    weight: Annotated[list[str] | None, typer.Option(help="What if a device weighed so much: DEVICE=WEIGHT.")] = None,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what a new layout would move and risk: of the present members, staged for `apply`; or of a what-if."""
    with admin(context) as client:
        pb = client.layout_pb
        request = pb.PlanLayoutRequest(
            add_nodes=[_added(client, text) for text in add_node or ()],
            remove_nodes=remove_node or (),
            remove_devices=remove_device or (),
            weights=[_weight(client, text) for text in weight or ()],
        )
        made = client.change(client.layouts.PlanLayout, request, seconds=PLAN_SECONDS)
    _show(made, output(as_json))


@app.command(epilog="Example: dwctl layout apply --plan 5f0c1d2e3b4a5968")
def apply(
    plan: Annotated[str, typer.Option(help="The plan that was shown, by its hash; default: what is staged now.")] = "",
    force: ForceFlag = False,
    yes: YesFlag = False,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Put the staged layout in force. Refused when it is not what was shown, or when less would be survived."""
    with admin(context) as client:
        digest = _staged(client, plan)
        confirm("put the staged layout in force?", yes=yes or bool(plan))
        _apply(client, digest, output(as_json), force=force)


@app.command(epilog="Example: dwctl layout revert 4")
def revert(
    epoch: Annotated[
        int, typer.Argument(min=0, max=2**63 - 1, help="The layout to go back to; 0: the one before the newest.")
    ] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Stage and show it only.")] = False,
    force: ForceFlag = False,
    yes: YesFlag = False,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Go back to the placement of an older layout, under a new epoch. Refused when devices of it are gone."""
    sink = output(as_json)
    with admin(context) as client:
        request = client.layout_pb.PlanLayoutRequest(revert=True, revert_epoch=epoch)
        made = client.change(client.layouts.PlanLayout, request, seconds=PLAN_SECONDS)
        if dry_run or not made.changes:
            _show(made, sink)
            return
        if not as_json:
            _show(made, sink)
        confirm("put it in force?", yes=yes)
        _apply(client, made.hash, sink, force=force)


@app.command(epilog="Example: dwctl layout drop")
def drop(context: ContextOption = None, as_json: JsonFlag = False) -> None:
    """Forget what is staged."""
    with admin(context) as client:
        reply = client.change(client.layouts.DropStagedLayout, client.layout_pb.DropStagedLayoutRequest())
    output(as_json).value(as_document(reply), "dropped what was staged" if reply.existed else "nothing was staged")


@app.command(epilog="Example: dwctl layout auto off")
def auto(
    switch: Annotated[str, typer.Argument(metavar="on|off", help="on: layouts follow the members by themselves.")],
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Let layouts follow the members, or leave them staged until an operator applies them."""
    if switch not in {"on", "off"}:
        raise InvalidArgument("layout.bad_switch", f"on or off, not {switch[:20]!r}")
    with admin(context) as client:
        request = client.layout_pb.SetLayoutAutomaticRequest(automatic=switch == "on")
        reply = client.change(client.layouts.SetLayoutAutomatic, request)
    told = "layouts follow the members" if reply.automatic else "layouts wait for `dwctl layout apply`"
    output(as_json).value(as_document(reply), told)


def _staged(client: AdminClient, wanted: str) -> str:
    """The whole hash of what is staged, if `wanted` is a beginning of it. Raises Conflict."""
    view = client.ask(client.layouts.ShowLayout, client.layout_pb.ShowLayoutRequest())
    if not wanted:
        return view.staged.hash
    if len(wanted) < HASH_CHARACTERS_MIN:
        raise InvalidArgument("layout.bad_hash", f"at least {HASH_CHARACTERS_MIN} characters of the plan's hash")
    if not view.staged.hash.startswith(wanted.lower()):
        raise Conflict(
            "layout.changed", "what is staged is not what was shown", hint="look at it anew: `dwctl layout plan`"
        )
    return view.staged.hash


def _apply(client: AdminClient, digest: str, sink: Output, *, force: bool) -> None:
    request = client.layout_pb.ApplyLayoutRequest(hash=digest, force=force)
    made = client.change(client.layouts.ApplyLayout, request, seconds=PLAN_SECONDS)
    sink.value(as_document(made), f"layout {made.epoch} is in force; data moves in the background: `dwctl layout show`")


def _show(made: layout_pb2.LayoutPlan, sink: Output) -> None:
    if sink.as_json:
        sink.value(as_document(made), "")
        return
    for line in layout_page.plan_head(made):
        sink.note(line)
    if made.changes:
        sink.table(layout_page.movements(made), {})
        print_line("")
        sink.table(layout_page.survivals(made), {})
    for line in layout_page.plan_tail(made):
        sink.note(line)


def _added(client: AdminClient, text: str) -> layout_pb2.AddedNode:
    match = _ADDED.fullmatch(text)
    if match is None:
        raise InvalidArgument(
            "layout.bad_node", f"not a node to add: {text[:60]!r}", hint="NAME[@ZONE[/RACK]][:WEIGHT[xDEVICES]]"
        )
    found = match.groupdict(default="")
    made: layout_pb2.AddedNode = client.layout_pb.AddedNode(
        name=found["name"], zone=found["zone"], rack=found["rack"], weight=int(found["weight"] or 0),
        devices=int(found["devices"] or 0),
    )  # fmt: skip
    return made


def _weight(client: AdminClient, text: str) -> layout_pb2.DeviceWeight:
    device, _, weight = text.partition("=")
    if not device or not weight.isdigit():
        raise InvalidArgument("layout.bad_weight", f"not DEVICE=WEIGHT: {text[:60]!r}")
    made: layout_pb2.DeviceWeight = client.layout_pb.DeviceWeight(device=device, weight=int(weight))
    return made
