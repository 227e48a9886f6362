"""dwctl bucket: create, list, show, set-profile, delete."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from dwctl.commands.profile import CriticalityOption, TierOption, explanation_lines
from dwctl.compression import CompressionOption, compression_name, parse_compression
from dwctl.jobs import DryRunFlag, WaitFlag, run_job
from dwctl.output import confirm
from dwctl.session import ContextOption, JsonFlag, YesFlag, admin, as_document, output
from dwctl.tables import Column, table
from dwctl.text import when
from dwd.base.errors import InvalidArgument, NotFound
from dwd.base.units import format_bytes

if TYPE_CHECKING:
    from dwd.pb.admin.v1 import admin_pb2

app = typer.Typer(name="bucket", help="Buckets: create, list, show, change, delete.", no_args_is_help=True)
EncryptionOption = Annotated[
    str, typer.Option(help="Encrypt what is stored: on, off; default as the cluster has it (`dwctl keyring`).")
]
NamedKeyOption = Annotated[str, typer.Option(help="Encrypt under this key of `dwctl keyring list`.")]
NameArgument = Annotated[str, typer.Argument(help="The bucket's name.")]


@app.command()
def create(
    name: NameArgument,
    profile: Annotated[str, typer.Option(help="How its data survives losses: rs-4-2, replica-3, auto ...")] = "",
    owner: Annotated[str, typer.Option(help="The user who owns it; default: the first administrator.")] = "",
    tier: TierOption = "",
    criticality: CriticalityOption = "",
    allow_fallback: Annotated[
        bool, typer.Option("--allow-fallback", help="Rather a weaker profile for a while than refuse a write.")
    ] = False,
    compression: CompressionOption = "",
    encryption: EncryptionOption = "",
    named_key: NamedKeyOption = "",
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Create a bucket."""
    with admin(context) as client:
        request = client.pb.CreateBucketRequest(
            name=name,
            profile=profile,
            owner=owner,
            tier=tier,
            criticality=criticality,
            allow_fallback=allow_fallback,
            compression=parse_compression(compression) if compression else None,
            encryption=encryption,
            named_key=named_key,
        )
        made = client.change(client.stub.CreateBucket, request)
    output(as_json).value(
        as_document(made),
        f"created bucket {made.name} (profile {_profile(made)}, owner {made.owner})\n"
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
        (b.name, b.owner, _profile(b), f"{b.objects:,}", format_bytes(b.bytes), when(b.created_unix_ms)) for b in found
    )
    output(as_json).table(table("buckets", columns, rows), {"buckets": [as_document(b) for b in found]})


@app.command()
def show(name: NameArgument, context: ContextOption = None, as_json: JsonFlag = False) -> None:
    """Show a bucket: what it holds, how its data is stored and why."""
    with admin(context) as client:
        buckets = client.ask(client.stub.ListBuckets, client.pb.ListBucketsRequest()).buckets
        found = next((b for b in buckets if b.name == name), None)
        if found is None:
            raise NotFound("objects.no_such_bucket", f"there is no bucket {name}", hint="see `dwctl bucket list`")
        request = client.profiles_pb.ExplainProfileRequest(what=name, is_bucket=True)
        why = client.ask(client.profiles.ExplainProfile, request)
    lines = [
        f"bucket {found.name} of {found.owner}, created {when(found.created_unix_ms)}",
        f"{found.objects:,} objects, {format_bytes(found.bytes)}",
        *_at_rest(found),
        *explanation_lines(why),
    ]
    output(as_json).value({**as_document(found), "explanation": as_document(why)}, "\n".join(lines))


@app.command("set")
def set_(
    name: NameArgument,
    compression: CompressionOption = "",
    encryption: EncryptionOption = "",
    named_key: NamedKeyOption = "",
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Change how objects stored from now on lie at rest: compression, encryption. What is there stays as it is."""
    if not (compression or encryption or named_key):
        raise InvalidArgument("bucket.nothing_to_set", "nothing to set", hint="say --compression or --encryption")
    with admin(context) as client:
        request = client.keys_pb.SetBucketAtRestRequest(
            name=name,
            compression=parse_compression(compression) if compression else None,
            encryption=encryption,
            named_key=named_key,
        )
        found = client.change(client.keys.SetBucketAtRest, request)
    key = f" under key {found.named_key}" if found.named_key else ""
    output(as_json).value(
        as_document(found),
        f"bucket {name}: encryption {found.encryption}{key}, compression {compression_name(found.compression)}",
    )


@app.command("set-profile")
def set_profile(
    name: NameArgument,
    profile: Annotated[str, typer.Argument(help="How its data is to survive losses: rs-6-3, replica-3, auto ...")],
    tier: TierOption = "",
    criticality: CriticalityOption = "",
    allow_fallback: Annotated[
        bool | None,
        typer.Option("--allow-fallback/--no-fallback", help="Rather a weaker profile for a while than refuse a write."),
    ] = None,
    convert: Annotated[
        bool, typer.Option("--convert/--no-convert", help="Store anew what the bucket holds, or only what comes.")
    ] = True,
    dry_run: DryRunFlag = False,
    wait: WaitFlag = True,
    yes: YesFlag = False,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Change how a bucket's data is stored, while it is used: new writes at once, what is there by a job."""
    arguments = {"bucket": name, "profile": profile, "convert": "yes" if convert else "no"}
    arguments |= {"tier": tier} if tier else {}
    arguments |= {"criticality": criticality} if criticality else {}
    arguments |= {} if allow_fallback is None else {"fallback": "yes" if allow_fallback else "no"}
    with admin(context) as client:
        run_job(client, "bucket.profile", arguments, dry_run=dry_run, yes=yes or as_json, wait=wait, as_json=as_json)


@app.command()
def delete(name: NameArgument, context: ContextOption = None, yes: YesFlag = False, as_json: JsonFlag = False) -> None:
    """Delete an empty bucket."""
    confirm(f"Delete bucket {name}?", yes=yes or as_json)
    with admin(context) as client:
        client.change(client.stub.DeleteBucket, client.pb.DeleteBucketRequest(name=name))
    output(as_json).value({"deleted": name}, f"deleted bucket {name}")


def _at_rest(bucket: admin_pb2.Bucket) -> list[str]:
    key = f" under key {bucket.named_key}" if bucket.named_key else ""
    lines = [f"encryption {bucket.encryption}{key}, compression {compression_name(bucket.compression)}"]
    if bucket.stored_bytes != bucket.packed_bytes:
        lines.append(
            f"blocks: {format_bytes(bucket.packed_bytes)} of objects lie in {format_bytes(bucket.stored_bytes)}"
            " before erasure coding"
        )
    return lines


def _profile(bucket: admin_pb2.Bucket) -> str:
    """With what it means today, where that is not the same."""
    means = f" ({bucket.stored_as})" if bucket.stored_as not in {"", bucket.profile} else ""
    return f"{bucket.profile}{means}"
