"""dwctl user: create, list, enable, disable, delete."""

from __future__ import annotations

from typing import Annotated

import typer

from dwctl.output import confirm
from dwctl.session import ContextOption, JsonFlag, YesFlag, admin, as_document, output
from dwctl.tables import Column, table
from dwctl.text import when

app = typer.Typer(
    name="user", help="Users of the object API: create, list, enable, disable, delete.", no_args_is_help=True
)
NameArgument = Annotated[str, typer.Argument(help="The user's name.")]


@app.command()
def create(
    name: NameArgument,
    administrator: Annotated[bool, typer.Option("--admin", help="May act on every bucket.")] = False,
    context: ContextOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Create a user; give it keys with `dwctl key create`."""
    with admin(context) as client:
        made = client.change(client.stub.CreateUser, client.pb.CreateUserRequest(name=name, admin=administrator))
    output(as_json).value(as_document(made), f"created user {made.name}\nnext: dwctl key create {made.name}")


@app.command("list")
def list_(context: ContextOption = None, as_json: JsonFlag = False) -> None:
    """List users and their access keys (never the secrets)."""
    with admin(context) as client:
        found = client.ask(client.stub.ListUsers, client.pb.ListUsersRequest()).users
    rows = (
        (
            u.name,
            "yes" if u.admin else "no",
            "yes" if u.enabled else "no",
            when(u.created_unix_ms),
            ", ".join(k.id + ("" if k.enabled else " (disabled)") for k in u.keys) or "-",
        )
        for u in found
    )
    columns = ("name", Column(name="admin", rank=1), "enabled", Column(name="created", rank=2), "keys")
    output(as_json).table(table("users", columns, rows), {"users": [as_document(u) for u in found]})


def _set(name: str, *, enabled: bool, context: str | None, as_json: bool) -> None:
    with admin(context) as client:
        user = client.change(client.stub.SetUser, client.pb.SetUserRequest(name=name, enabled=enabled))
    output(as_json).value(as_document(user), f"user {name} is {'enabled' if enabled else 'disabled'}")


@app.command()
def enable(name: NameArgument, context: ContextOption = None, as_json: JsonFlag = False) -> None:
    """Let the user in again."""
    _set(name, enabled=True, context=context, as_json=as_json)


@app.command()
def disable(name: NameArgument, context: ContextOption = None, as_json: JsonFlag = False) -> None:
    """Refuse all the user's keys."""
    _set(name, enabled=False, context=context, as_json=as_json)


@app.command()
def delete(name: NameArgument, context: ContextOption = None, yes: YesFlag = False, as_json: JsonFlag = False) -> None:
    """Delete a user who owns no bucket, and all the user's keys."""
    confirm(f"Delete user {name} and all its keys?", yes=yes or as_json)
    with admin(context) as client:
        client.change(client.stub.DeleteUser, client.pb.DeleteUserRequest(name=name))
    output(as_json).value({"deleted": name}, f"deleted user {name}")
