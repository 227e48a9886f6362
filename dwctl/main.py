"""The command tree of dwctl and the one place where errors become exit codes."""

from __future__ import annotations

import sys

import typer

from dwctl.commands import bucket, cluster, context, key, node, object_, user, worker
from dwctl.dev import commands as dev
from dwctl.output import Output
from dwd.base.errors import DwError
from dwd.base.exits import Exit, exit_code

app = typer.Typer(
    name="dwctl",
    help="Operate a dwd storage cluster. Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 refused by a safety "
    "check, 5 unavailable (nothing changed), 6 outcome not known, 7 not allowed, 8 conflict.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (cluster, node, bucket, object_, user, key, worker, context, dev):
    app.add_typer(group.app)


def main() -> None:
    """Entry point: run the command, print errors with what to do next, exit with the code of their kind."""
    as_json = "--json" in sys.argv[1:]
    try:
        app()
    except DwError as error:
        Output(as_json=as_json).error(error)
        sys.exit(exit_code(error))
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(Exit.FAILED)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
