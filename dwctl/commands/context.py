"""dwctl context: which cluster commands talk to by default."""

from __future__ import annotations

from typing import Annotated

import typer

from dwctl import context as contexts
from dwctl.session import JsonFlag, output

app = typer.Typer(name="context", help="Which cluster dwctl talks to.", no_args_is_help=True)


@app.command("list")
def list_(as_json: JsonFlag = False) -> None:
    """List the known clusters."""
    known = contexts.contexts()
    output(as_json).table(
        "Contexts",
        ("name", "current", "cluster"),
        ((name, "*" if current else "", path) for name, (path, current) in known.items()),
        {"contexts": [{"name": n, "cluster": p, "current": c} for n, (p, c) in known.items()]},
    )


@app.command()
def use(
    cluster: Annotated[str, typer.Argument(help="A cluster.json, its directory, or a context name.")],
    name: Annotated[str, typer.Option(help="The name to remember it by; default: the directory's.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Make a cluster the default."""
    path = contexts.resolve(cluster)
    contexts.read_cluster(path)
    chosen = name or path.resolve().parent.name
    contexts.remember(chosen, path)
    output(as_json).value({"context": chosen, "cluster": str(path.resolve())}, f"dwctl now talks to {chosen} ({path})")
