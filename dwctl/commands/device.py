"""dwctl device: the disks of the nodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dwctl.jobs import DryRunFlag, ForceFlag, WaitFlag, run_job
from dwctl.session import ContextOption, JsonFlag, YesFlag, admin, as_document, output
from dwctl.tables import Column, table
from dwctl.text import natural, when
from dwd.base.units import format_bytes

if TYPE_CHECKING:
    from dwd.pb.admin.v1 import devices_pb2

app = typer.Typer(name="device", help="Devices: list, drain, undrain, retire.", no_args_is_help=True)

DeviceArgument = Annotated[
    str, typer.Argument(metavar="DEVICE", help="Its id, or so much of it that no other begins alike.")
]


@app.command("list")
def list_(context: ContextOption = None, as_json: JsonFlag = False) -> None:
    """List the devices of all nodes: what they are able to do, hold and have free, and what was found wrong."""
    with admin(context) as client:
        found = list(client.ask(client.devices.ListDevices, client.devices_pb.ListDevicesRequest()).devices)
    columns = (
        "node",
        Column(name="device", is_id=True),
        Column(name="path", rank=1),
        Column(name="state", is_state=True),
        Column(name="weight", rank=2, is_number=True),
        Column(name="used", is_number=True),
        Column(name="free", is_number=True),
        Column(name="reserve", rank=3, is_number=True),
        Column(name="fragments", rank=2, is_number=True),
        Column(name="errors", rank=1, is_number=True),
        Column(name="last scrub", rank=2),
        Column(name="avoided by", rank=1),
        "reason",
    )
    rows = [_row(device) for device in sorted(found, key=lambda d: (natural(d.node_name), d.path, d.id))]
    output(as_json).table(table("devices", columns, rows), {"devices": [as_document(device) for device in found]})


def _row(device: devices_pb2.Device) -> tuple[str, ...]:
    known = device.answered and device.total_bytes
    return (
        device.node_name or device.node,
        device.id,
        device.path or "-",
        device.state,
        str(device.weight),
        format_bytes(device.used_bytes) if known else "-",
        format_bytes(device.free_bytes) if known else "-",
        format_bytes(device.reserve_bytes) if known else "-",
        f"{device.fragments:,}" if known else "-",
        str(device.errors) if device.answered else "-",
        when(device.scrub.last_ended_unix_ms) if device.scrub.last_ended_unix_ms else "-",
        _avoided(device),
        device.reason or "-",
    )


def _avoided(device: devices_pb2.Device) -> str:
    """By which nodes, each by its own experience, and why."""
    told = []
    for one in device.avoided:
        why = [] if one.breaker == "closed" else [f"breaker {one.breaker}"]
        told.append(f"{one.node_name} ({', '.join([*why, *(['slow'] if one.sluggish else [])])})")
    return ", ".join(told) or "-"


@app.command()
def drain(
    device: DeviceArgument,
    dry_run: DryRunFlag = False,
    yes: YesFlag = False,
    wait: WaitFlag = True,
    force: ForceFlag = False,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Empty a device: it is read until others hold what it held. Cancelling the job takes it back."""
    with admin(context) as client:
        run_job(
            client, "device.drain", {"device": device},
            dry_run=dry_run, yes=yes, wait=wait, force=force, as_json=as_json,
        )  # fmt: skip


@app.command()
def undrain(
    device: DeviceArgument,
    dry_run: DryRunFlag = False,
    yes: YesFlag = False,
    wait: WaitFlag = True,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Take a device back that was drained: data comes to it again."""
    with admin(context) as client:
        run_job(client, "device.undrain", {"device": device}, dry_run=dry_run, yes=yes, wait=wait, as_json=as_json)


@app.command()
def retire(
    device: DeviceArgument,
    dry_run: DryRunFlag = False,
    yes: YesFlag = False,
    wait: WaitFlag = True,
    force: ForceFlag = False,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Let a device that holds nothing any more, or is lost, leave the cluster; --force also one that holds data."""
    with admin(context) as client:
        run_job(
            client, "device.retire", {"device": device},
            dry_run=dry_run, yes=yes, wait=wait, force=force, as_json=as_json,
        )  # fmt: skip
