"""dwctl keyring: the keys of data at rest: status, rotate, named keys, defaults of buckets."""

from __future__ import annotations

from typing import Annotated

import typer

from dwctl.compression import CompressionOption, compression_name, parse_compression
from dwctl.jobs import DryRunFlag, WaitFlag, run_job
from dwctl.output import confirm
from dwctl.session import ContextOption, JsonFlag, YesFlag, admin, as_document, output
from dwctl.tables import Column, table
from dwctl.text import when
from dwd.base.errors import InvalidArgument

app = typer.Typer(
    name="keyring", help="Keys of data at rest: status, rotate, named keys, defaults.", no_args_is_help=True
)
NameArgument = Annotated[str, typer.Argument(help="The key's name, which clients send as the id of a KMS key.")]


@app.command()
def status(context: ContextOption = None, as_json: JsonFlag = False) -> None:
    """Show which version of the cluster's keys wraps what, and the defaults of buckets."""
    with admin(context) as client:
        found = client.ask(client.keys.KeyringStatus, client.keys_pb.KeyringStatusRequest())
    sink = output(as_json)
    columns = ("keys", Column(name="wrapped by", is_number=True), Column(name="count", is_number=True))
    rows = [(one.kind, f"version {one.version}", f"{one.count:,}") for one in found.sealed]
    sink.table(table("keys", columns, rows), as_document(found))
    if not as_json:
        versions = ", ".join(str(version) for version in found.versions)
        sink.note(
            f"the cluster seals with version {found.version}; the ring holds {versions}\n"
            f"new buckets: encryption {found.defaults.encryption}, "
            f"compression {compression_name(found.defaults.compression)}"
        )


@app.command()
def rotate(
    dry_run: DryRunFlag = False,
    wait: WaitFlag = True,
    yes: YesFlag = False,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Give the cluster a new key, wrap all keys with it and retire the old one. Objects are not touched."""
    with admin(context) as client:
        run_job(client, "keyring.rotate", {}, dry_run=dry_run, yes=yes or as_json, wait=wait, as_json=as_json)


@app.command("list")
def list_(context: ContextOption = None, as_json: JsonFlag = False) -> None:
    """List the named keys."""
    with admin(context) as client:
        found = client.ask(client.keys.KeyringStatus, client.keys_pb.KeyringStatusRequest()).named_keys
    columns = ("name", Column(name="state", is_state=True), Column(name="created", rank=2))
    rows = [(one.name, "enabled" if one.enabled else "disabled", when(one.created_unix_ms)) for one in found]
    output(as_json).table(table("named keys", columns, rows), {"named_keys": [as_document(one) for one in found]})


@app.command()
def create(name: NameArgument, context: ContextOption = None, as_json: JsonFlag = False) -> None:
    """Make a named key, for objects and buckets that ask for it (aws:kms)."""
    with admin(context) as client:
        made = client.change(client.keys.CreateNamedKey, client.keys_pb.CreateNamedKeyRequest(name=name))
    output(as_json).value(
        as_document(made), f"created key {name}\nnext: dwctl bucket set BUCKET --encryption on --named-key {name}"
    )


@app.command()
def enable(name: NameArgument, context: ContextOption = None, as_json: JsonFlag = False) -> None:
    """Use the key again."""
    _set(name, enabled=True, context=context, as_json=as_json)


@app.command()
def disable(name: NameArgument, context: ContextOption = None, yes: YesFlag = False, as_json: JsonFlag = False) -> None:
    """Refuse the key: objects encrypted with it cannot be read until it is enabled again."""
    confirm(f"Disable key {name}? What it encrypts cannot be read meanwhile.", yes=yes or as_json)
    _set(name, enabled=False, context=context, as_json=as_json)


@app.command()
def defaults(
    encryption: Annotated[str, typer.Option(help="Encrypt what new buckets store: on, off.")] = "",
    compression: CompressionOption = "",
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Set what buckets get whose maker says nothing of encryption or compression."""
    if not encryption and not compression:
        raise InvalidArgument("keyring.nothing_to_set", "nothing to set", hint="say --encryption or --compression")
    with admin(context) as client:
        request = client.keys_pb.SetDefaultsRequest(
            encryption=encryption, compression=parse_compression(compression) if compression else None
        )
        found = client.change(client.keys.SetDefaults, request)
    output(as_json).value(
        as_document(found),
        f"new buckets: encryption {found.encryption}, compression {compression_name(found.compression)}",
    )


def _set(name: str, *, enabled: bool, context: str | None, as_json: bool) -> None:
    with admin(context) as client:
        made = client.change(client.keys.SetNamedKey, client.keys_pb.SetNamedKeyRequest(name=name, enabled=enabled))
    output(as_json).value(as_document(made), f"key {name} is {'enabled' if enabled else 'disabled'}")
