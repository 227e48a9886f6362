"""The reference of the commands `dwd` and `dwctl`, read off the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from dwctl.main import app as dwctl
from dwd.node.cli import app as dwd

HEAD = """# Commands

Written by `make docs` from the commands themselves. With `--json` a command prints one JSON document on standard
output; an error of `dwctl` is then one JSON document on standard error. Exit codes: 0 done, 1 failed, 2 usage, 3 not
found, 4 refused by a safety check, 5 unavailable (nothing was changed), 6 outcome not known, 7 not allowed, 8 conflict.
`dwctl` finds its cluster by `--context`, then `DWCTL_CLUSTER`, then the last `dwctl dev up` or `dwctl context use`.
"""


def reference() -> str:
    """All of docs/commands.md."""
    parts = [HEAD]
    for name, app in (("dwd", dwd), ("dwctl", dwctl)):
        root = typer.main.get_command(app)
        parts.append(f"## {name}\n\n{_text(root)}\n")
        parts.extend(section for path, command in leaves(name, root) for section in _section(path, command))
    return "\n".join(parts)


def leaves(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    """Every command that does something, with its full name, in the order of the help."""
    for name, inner in getattr(command, "commands", {}).items():
        if getattr(inner, "commands", None):
            yield from leaves(f"{path} {name}", inner)
        else:
            yield f"{path} {name}", inner


def _section(path: str, command: Any) -> Iterator[str]:
    shown = [p for p in command.params if not getattr(p, "hidden", False)]
    arguments = [p for p in shown if p.param_type_name == "argument"]
    options = [p for p in shown if p.param_type_name == "option"]
    usage = " ".join([path, *(p.name.upper() if p.required else f"[{p.name.upper()}]" for p in arguments)])
    yield f"### `{usage}`\n\n{_text(command)}\n"
    rows = [(f"`{p.name.upper()}`", p) for p in arguments]
    rows += [(", ".join(f"`{o}`" for o in (*p.opts, *p.secondary_opts)), p) for p in options]
    if rows:
        yield "\n".join(["| | |", "| --- | --- |", *(f"| {name} | {_explained(p)} |" for name, p in rows)]) + "\n"


def _explained(parameter: Any) -> str:
    default = parameter.default
    told = isinstance(default, int | str) and not isinstance(default, bool) and default != ""
    return f"{parameter.help or ''}{f' Default: {default}.' if told else ''}".replace("|", "\\|")


def _text(command: Any) -> str:
    return " ".join((command.help or "").split())
