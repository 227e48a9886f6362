"""The command tree of dwctl and the one place where errors become exit codes."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer

from dwctl.commands import (
    bucket,
    cluster,
    context,
    device,
    heal,
    job,
    key,
    keyring,
    layout,
    node,
    object_,
    profile,
    raft,
    scrub,
    user,
    worker,
)
from dwctl.dev import commands as dev
from dwctl.output import Output, print_line
from dwd.base.errors import DwError
from dwd.base.exits import Exit, exit_code
from dwd.base.version import VERSION

INTERRUPTED = 130
"""As shells say it: 128 and the number of SIGINT."""
app = typer.Typer(
    name="dwctl",
    help="Operate a dwd storage cluster.",
    epilog="Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 refused by a safety check, 5 unavailable (nothing "
    "was changed), 6 outcome not known, 7 not allowed, 8 conflict.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
UsageError: type[Any] = typer.BadParameter.__bases__[0]
"""What wrong options raise; typer does not export it by name. Only with --json it gets here, else typer prints it."""
VersionFlag = Annotated[
    bool,
    typer.Option(
        "--version", is_eager=True, callback=lambda asked: print_version(asked=asked), help="Print the version."
    ),
]


@app.callback()
def options(_version: VersionFlag = False) -> None:
    """Operate a dwd storage cluster."""


def print_version(*, asked: bool) -> None:
    if asked:
        print_line(f"dwctl {VERSION}")
        raise typer.Exit


for group in (
    cluster,
    node,
    device,
    layout,
    heal,
    scrub,
    job,
    raft,
    bucket,
    profile,
    object_,
    user,
    key,
    keyring,
    worker,
    context,
    dev,
):
    app.add_typer(group.app)
app.command()(job.why)


def main() -> None:
    """Entry point: run the command, print errors with what to do next, exit with the code of their kind."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # read when grpc is imported; its core else prints to stderr
    as_json = "--json" in sys.argv[1:]
    try:
        sys.exit(app(standalone_mode=False) if as_json else app())
    except UsageError as error:
        told = DwError(
            "dwctl.usage", error.format_message(), hint="`dwctl --help` and the help of each command say what there is"
        )
        Output(as_json=as_json).error(told)
        sys.exit(Exit.USAGE)
    except DwError as error:
        Output(as_json=as_json).error(error)
        sys.exit(exit_code(error))
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(Exit.FAILED)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
