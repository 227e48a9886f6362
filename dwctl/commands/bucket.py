"""dwctl bucket: create, list, delete."""

from __future__ import annotations

from typing import Annotated

import typer

from dwctl.output import confirm
from dwctl.session import ContextOption, JsonFlag, YesFlag, admin, as_document, output
from dwctl.tables import Column, table
from dwctl.text import when
from dwd.base.units import format_bytes

app = typer.Typer(name="bucket", help="Buckets: create, list, delete.", no_args_is_help=True)
NameArgument = Annotated[str, typer.Argument(help="The bucket's name.")]


@app.command()
def create(
    name: NameArgument,
    profile: Annotated[str, typer.Option(help="How its data survives losses: rs-4-2, replica-3, auto ...")] = "",
    owner: Annotated[str, typer.Option(help="The user who owns it; default: the first administrator.")] = "",
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Create a bucket."""
    with admin(context) as client:
        made = client.change(
            client.stub.CreateBucket, client.pb.CreateBucketRequest(name=name, profile=profile, owner=owner)
        )
    output(as_json).value(
        as_document(made),
        f"created bucket {made.name} (profile {made.profile}, owner {made.owner})\n"
        f"next: dwctl object put {made.name} KEY FILE",
    )


@app.command("list")
def list_(context: ContextOption = None, as_json: JsonFlag = False) -> None:
    """List all buckets with what they hold."""
    with admin(context) as client:
        found = client.ask(client.stub.ListBuckets, client.pb.ListBucketsRequest()).buckets
    columns = (
        "name",
        Column(name="owner", rank=1),
        "profile",
        Column(name="objects", is_number=True),
        Column(name="size", is_number=True),
        Column(name="created", rank=2),
    )
    rows = (
        (b.name, b.owner, b.profile, f"{b.objects:,}", format_bytes(b.bytes), when(b.created_unix_ms)) for b in found
    )
    output(as_json).table(table("buckets", columns, rows), {"buckets": [as_document(b) for b in found]})


@app.command()
def delete(name: NameArgument, context: ContextOption = None, yes: YesFlag = False, as_json: JsonFlag = False) -> None:
    """Delete an empty bucket."""
    confirm(f"Delete bucket {name}?", yes=yes or as_json)
    with admin(context) as client:
        client.change(client.stub.DeleteBucket, client.pb.DeleteBucketRequest(name=name))
    output(as_json).value({"deleted": name}, f"deleted bucket {name}")
