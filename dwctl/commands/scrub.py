"""dwctl scrub: reading everything that is stored, before somebody needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dwctl.jobs import DryRunFlag, WaitFlag, run_job
from dwctl.session import ContextOption, JsonFlag, YesFlag, admin, as_document, output
from dwctl.tables import Column, table
from dwctl.text import natural, when
from dwd.base.errors import InvalidArgument
from dwd.base.units import format_bytes

if TYPE_CHECKING:
    from dwd.pb.admin.v1 import devices_pb2

app = typer.Typer(name="scrub", help="Verifying what is stored: start, status, period.", no_args_is_help=True)


@app.command()
def start(
    device: Annotated[str | None, typer.Option(help="Only this device.")] = None,
    node: Annotated[str | None, typer.Option(help="Only the devices of this node (name or id).")] = None,
    full_speed: Annotated[bool, typer.Option("--full-speed", help="Also when clients have to wait for it.")] = False,
    dry_run: DryRunFlag = False,
    yes: YesFlag = False,
    wait: WaitFlag = True,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Read and verify everything now; what is bad is repaired. Passes come by themselves: see `dwctl scrub status`."""
    arguments = {name: value for name, value in (("device", device), ("node", node)) if value is not None}
    if len(arguments) > 1:
        raise InvalidArgument("scrub.arguments", "say --device or --node, not both")
    if "" in arguments.values():  # an unset variable of a script must not mean every device
        raise InvalidArgument("scrub.arguments", "an empty name", hint="leave the option out to verify every device")
    if full_speed:
        arguments["speed"] = "full"
    with admin(context) as client:
        run_job(client, "scrub", arguments, dry_run=dry_run, yes=yes, wait=wait, as_json=as_json)


@app.command()
def status(context: ContextOption = None, as_json: JsonFlag = False) -> None:
    """Show how far each device is, when it was last read whole, and what was found."""
    with admin(context) as client:
        reply = client.ask(client.devices.ListDevices, client.devices_pb.ListDevicesRequest())
    columns = (
        "node",
        Column(name="device", is_id=True),
        Column(name="pass", rank=2, is_number=True),
        "progress",
        Column(name="found", is_number=True),
        Column(name="rate", rank=1, is_number=True),
        Column(name="ends", rank=1),
        Column(name="last pass", rank=1),
        Column(name="verified", rank=2, is_number=True),
        Column(name="found then", rank=2, is_number=True),
        Column(name="asked by", rank=3),
    )
    shown = [device for device in reply.devices if device.state not in {"lost", "retired"}]
    rows = [_row(device) for device in sorted(shown, key=lambda d: (natural(d.node_name), d.path, d.id))]
    sink = output(as_json)
    sink.table(table("scrubbing", columns, rows), as_document(reply))
    sink.note(f"every fragment is read within {reply.scrub_period_days:g} days")


def _row(device: devices_pb2.Device) -> tuple[str, ...]:
    scrub = device.scrub
    progress = "-" if device.answered else "does not answer"
    if scrub.running:
        share = scrub.done_bytes / scrub.total_bytes if scrub.total_bytes else 0.0
        progress = f"{share:.0%} of {format_bytes(scrub.total_bytes)}"
    return (
        device.node_name or device.node,
        device.id,
        str(scrub.number) if scrub.number else "-",
        progress,
        f"{scrub.found:,}" if scrub.running else "-",
        f"{format_bytes(int(scrub.bytes_per_second))}/s" if scrub.running and scrub.bytes_per_second else "-",
        when(scrub.ends_unix_ms) if scrub.ends_unix_ms else "-",
        when(scrub.last_ended_unix_ms) if scrub.last_ended_unix_ms else "never",
        format_bytes(scrub.last_bytes) if scrub.last_ended_unix_ms else "-",
        f"{scrub.last_found:,}" if scrub.last_ended_unix_ms else "-",
        scrub.order if scrub.running and scrub.order else "-",
    )


@app.command()
def period(
    days: Annotated[
        float,
        typer.Argument(min=0.0, help="Once in so many days; 0: as the cluster's tier wants."),
    ],
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Set within how many days every fragment is read: 7, for the tiers High-Stakes 1 and Hyperscale 3, unless set."""
    with admin(context) as client:
        reply = client.change(client.devices.SetScrubPeriod, client.devices_pb.SetScrubPeriodRequest(days=days))
    output(as_json).value(as_document(reply), f"every fragment is read within {reply.days:g} days")
