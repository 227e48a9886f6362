"""dwctl context: which cluster commands talk to by default."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dwctl import context as contexts
from dwctl.session import JsonFlag, output
from dwctl.tables import table
from dwd.base.errors import NotFound

app = typer.Typer(name="context", help="Which cluster dwctl talks to: list, use, forget.", no_args_is_help=True)


@app.command("list")
def list_(as_json: JsonFlag = False) -> None:
    """List the known clusters."""
    known = contexts.contexts()
    rows = ((name, "yes" if current else "-", path) for name, (path, current) in known.items())
    output(as_json).table(
        table("contexts", ("name", "current", "cluster"), rows),
        {"contexts": [{"name": n, "cluster": p, "current": c} for n, (p, c) in known.items()]},
    )


@app.command()
def use(
    cluster: Annotated[str, typer.Argument(help="A cluster.json, its directory, or a context name.")],
    name: Annotated[str, typer.Option(help="The name to remember it by; default: the cluster's.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Make a cluster the default."""
    path = contexts.resolve(cluster)
    found = contexts.read_cluster(path)
    called = str(found.document.get("cluster", ""))
    chosen = name or (called if called and Path(called).name == called else path.resolve().parent.name)
    chosen = contexts.remember(chosen, path)
    output(as_json).value({"context": chosen, "cluster": str(path.resolve())}, f"dwctl now talks to {chosen} ({path})")


@app.command()
def forget(
    name: Annotated[str, typer.Argument(help="A context, as `dwctl context list` names it.")], as_json: JsonFlag = False
) -> None:
    """Forget a context; the cluster itself stays as it is."""
    if name not in contexts.contexts():
        raise NotFound("context.not_found", f"no context {name!r}", hint="`dwctl context list` shows the contexts")
    contexts.forget_name(name)
    output(as_json).value({"forgotten": name}, f"forgot context {name}")
