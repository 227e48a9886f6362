"""dwctl key: access keys of users."""

from __future__ import annotations

from typing import Annotated

import typer

from dwctl.output import confirm
from dwctl.session import ContextOption, JsonFlag, YesFlag, admin, as_document, output

app = typer.Typer(name="key", help="Access keys for S3: create, enable, disable, delete.", no_args_is_help=True)
IdArgument = Annotated[str, typer.Argument(help="The access key id.")]


@app.command()
def create(
    user: Annotated[str, typer.Argument(help="Whose key.")], context: ContextOption = None, as_json: JsonFlag = False
) -> None:
    """Create an access key. The secret is shown now and never again."""
    with admin(context) as client:
        made = client.change(client.stub.CreateAccessKey, client.pb.CreateAccessKeyRequest(user=user))
    output(as_json).value(
        as_document(made), f"access key {made.id}\nsecret     {made.secret}\nKeep the secret: it is not shown again."
    )


def _set(key: str, *, enabled: bool, context: str | None, as_json: bool) -> None:
    with admin(context) as client:
        made = client.change(client.stub.SetAccessKey, client.pb.SetAccessKeyRequest(id=key, enabled=enabled))
    output(as_json).value(as_document(made), f"key {key} is {'enabled' if enabled else 'disabled'}")


@app.command()
def enable(key: IdArgument, context: ContextOption = None, as_json: JsonFlag = False) -> None:
    """Accept the key again."""
    _set(key, enabled=True, context=context, as_json=as_json)


@app.command()
def disable(key: IdArgument, context: ContextOption = None, as_json: JsonFlag = False) -> None:
    """Refuse the key on every node."""
    _set(key, enabled=False, context=context, as_json=as_json)


@app.command()
def delete(key: IdArgument, context: ContextOption = None, yes: YesFlag = False, as_json: JsonFlag = False) -> None:
    """Delete the key for good."""
    confirm(f"Delete access key {key} for good?", yes=yes or as_json)
    with admin(context) as client:
        client.change(client.stub.DeleteAccessKey, client.pb.DeleteAccessKeyRequest(id=key))
    output(as_json).value({"deleted": key}, f"deleted key {key}")
