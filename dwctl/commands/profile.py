"""dwctl profile: which profiles there are, what a bucket gets and why, the cluster's tier."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from dwctl.session import ContextOption, JsonFlag, admin, as_document, output
from dwctl.tables import Column, table
from dwd.base.units import format_bytes

if TYPE_CHECKING:
    from dwd.pb.admin.v1 import profiles_pb2

DOMAINS_MAX = 1_000_000

app = typer.Typer(name="profile", help="How data survives losses: profiles, and which is chosen.", no_args_is_help=True)

TierOption = Annotated[
    str,
    typer.Option(help="Customer tier: individual, smb, enterprise, high-stakes, hyperscale (default: the cluster's)."),
]
CriticalityOption = Annotated[str, typer.Option(help="How bad a loss would be: low, normal, high, critical.")]


@app.command("list")
def list_(context: ContextOption = None, as_json: JsonFlag = False) -> None:
    """List profiles: what they cost, what they survive, and whether this cluster can hold them."""
    with admin(context) as client:
        found = client.ask(client.profiles.ListProfiles, client.profiles_pb.ListProfilesRequest())
    columns = (
        "name",
        Column(name="stored as", rank=2),
        Column(name="kind", rank=1),
        Column(name="overhead", is_number=True),
        Column(name="survives", is_number=True),
        Column(name="devices", is_number=True),
        "here",
    )
    rows = (
        (
            p.name,
            p.scheme,
            p.kind,
            f"{p.overhead:.2f}",
            f"{p.survives}",
            f"{p.devices_min}",
            p.missing or "fits",
        )
        for p in found.profiles
    )
    sink = output(as_json)
    sink.table(table("profiles", columns, rows), as_document(found))
    if not as_json:
        sink.note(
            f"{found.cluster}; tier {found.tier}; buckets that name none get {found.default_profile}\n"
            "also: any rs-K-M with K to 20 and M to 6, raid6-K, raidz3-K; auto chooses: `dwctl profile explain`"
        )


@app.command()
def explain(
    what: Annotated[str, typer.Argument(help="A bucket or a profile; default: auto.")] = "",
    tier: TierOption = "",
    criticality: CriticalityOption = "",
    devices: Annotated[int, typer.Option(min=0, max=DOMAINS_MAX, help="On a cluster of so many devices.")] = 0,
    nodes: Annotated[int, typer.Option(min=0, max=DOMAINS_MAX, help="On a cluster of so many nodes.")] = 0,
    zones: Annotated[int, typer.Option(min=0, max=DOMAINS_MAX, help="On a cluster of so many zones.")] = 0,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """What a bucket's data is stored as, why, and what that costs; here or on a cluster you imagine."""
    with admin(context) as client:
        request = client.profiles_pb.ExplainProfileRequest(
            what=what, tier=tier, criticality=criticality, devices=devices, nodes=nodes, zones=zones
        )
        found = client.ask(client.profiles.ExplainProfile, request)
    output(as_json).value(as_document(found), "\n".join(explanation_lines(found)))


@app.command()
def tier(
    name: Annotated[str, typer.Argument(help="The new tier; without it the present one is shown.")] = "",
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Show or set the cluster's customer tier: what auto goes by for buckets that name none."""
    with admin(context) as client:
        request = client.profiles_pb.SetTierRequest(tier=name)
        call = client.change if name else client.ask
        found = call(client.profiles.SetTier, request)
    output(as_json).value(as_document(found), f"tier {found.tier}" + (" from now on" if found.changed else ""))


def explanation_lines(found: profiles_pb2.ProfileExplanation) -> Iterator[str]:
    """For people."""
    stored = found.stored_as
    who = f"bucket {found.bucket}: {found.profile}" if found.bucket else found.profile
    yield f"{who} is stored as {found.meanwhile or stored.scheme} on {found.cluster}"
    yield from (f"  {reason}" for reason in found.reasons)
    if stored.missing:
        until = f"; until then {found.meanwhile} is written, and upgraded" if found.meanwhile else ""
        yield f"  {stored.name} {stored.missing}{until}"
    small = f"blocks below {format_bytes(found.small_bytes)} as {found.small_as}"
    then = f" as {stored.scheme}" if found.meanwhile else ""
    yield f"costs     {stored.overhead:.2f} bytes on devices for a byte{then}; {small}"
    zones = f", or {found.survives_zones} of {counted(found.zones, 'zone')}" if found.zones > 1 else ""
    nodes = counted(found.survives_nodes, "node")
    yield f"survives  the loss of {counted(found.survives_devices, 'device')}, or {nodes}{zones}"
    yield f"needs     {counted(stored.devices_min, 'device')}"
    if found.fallbacks:
        yield f"fallback  {', '.join(found.fallbacks)}" + ("" if found.allow_fallback else " (if the bucket allows it)")


def counted(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
