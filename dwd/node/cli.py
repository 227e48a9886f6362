"""The `dwd` command: init, join, run, check-config, config. Heavy parts are imported by the command that needs them."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from dwd.base.errors import DwError
from dwd.base.exits import Exit, exit_code, report
from dwd.base.version import VERSION

app = typer.Typer(
    name="dwd",
    help="The daemon of a dwd storage cluster. Operate it with dwctl.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
ConfigOption = Annotated[
    Path | None, typer.Option("--config", "-c", help="Settings file; without it defaults and DWD_ variables count.")
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


@app.callback()
def options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=lambda asked: print_version(asked=asked), help="Print the version."
        ),
    ] = False,
) -> None:
    """The daemon of a dwd storage cluster. Operate it with dwctl."""


@app.command()
def init(
    config: ConfigOption = None,
    cluster_name: Annotated[str, typer.Option(help="What people call the cluster.")] = "dwd",
    operator_dir: Annotated[
        Path | None, typer.Option(help="Where the first operator's certificate goes; default: beside identity_dir.")
    ] = None,
    shards: Annotated[
        int,
        typer.Option(
            min=1, max=1024, help="Groups that object metadata begins spread over, by bucket name; later it is fixed."
        ),
    ] = 1,
    as_json: JsonFlag = False,
) -> None:
    """Create a cluster: its id, certificate authority, first operator and first access key. Starts nothing."""
    from dwd.base.ids import hex_id
    from dwd.config.load import load
    from dwd.node.initialise import initialise
    from dwd.runtime.clock import SystemClock, SystemRng

    settings = load(config, os.environ)
    folder = operator_dir or settings.node.identity_dir.parent / "operator"
    made = initialise(
        settings,
        cluster_name=cluster_name,
        operator_dir=folder,
        clock=SystemClock(),
        rng=SystemRng(),
        shards=shards,
    )
    facts = {
        "cluster_id": made.cluster,
        "node_id": hex_id(made.node),
        "operator_dir": str(folder),
        "access_key": made.access_key.id,
    }
    named = f" --config {config}" if config else ""
    say(
        json.dumps(facts)
        if as_json
        else f"cluster {made.cluster} ({cluster_name}) is ready to start\n"
        f"  this node       {hex_id(made.node)} ({settings.node.name})\n"
        f"  operator files  {folder}  (cluster.json, certificate and key for dwctl)\n"
        f"  access key      {made.access_key.id}  (secret in {folder / 's3.json'})\n"
        f"next: dwd run{named}; then dwctl context use {folder}; dwctl node join-token"
    )


@app.command()
def join(
    token: Annotated[str, typer.Argument(help="From `dwctl node join-token`; - reads it from standard input.")],
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Make this machine a node of the cluster that issued the token. Starts nothing; repeating it is safe."""
    from dwd.base.ids import hex_id
    from dwd.config.load import load
    from dwd.node.joining import join as join_cluster
    from dwd.runtime.clock import SystemClock, SystemRng

    settings = load(config, os.environ)
    text = sys.stdin.readline().strip() if token == "-" else token  # noqa: S105 - the conventional name of stdin
    identity = asyncio.run(join_cluster(settings, text, clock=SystemClock(), rng=SystemRng()))
    facts = {"cluster_id": identity.cluster_id, "node_id": hex_id(identity.node_id), "name": identity.node_name}
    named = f" --config {config}" if config else ""
    say(
        json.dumps(facts)
        if as_json
        else f"this is now node {facts['node_id']} ({identity.node_name}) of cluster {identity.cluster_id}\n"
        f"next: dwd run{named}"
    )


@app.command()
def run(
    config: ConfigOption = None,
    record_unsynced: Annotated[
        Path | None, typer.Option(hidden=True, help="Testing aid: remember here how to take back what was not synced.")
    ] = None,
    ignore_syncs: Annotated[
        list[Path] | None, typer.Option(hidden=True, help="With --record-unsynced: a directory whose syncs do nothing.")
    ] = None,
    faults: Annotated[
        Path | None,
        typer.Option(hidden=True, help="Testing aid, on loopback only: faults to inject (dwd.node.faults)."),
    ] = None,
) -> None:
    """Run the daemon in the foreground until SIGTERM or SIGINT."""
    from dwd.config.load import load
    from dwd.node.disk import SYSTEM_DISK, recording_disk
    from dwd.node.faults import Faults
    from dwd.node.main import run_daemon
    from dwd.runtime.clock import SystemClock

    settings = load(config, os.environ)
    disk = SYSTEM_DISK
    if record_unsynced is not None:
        disk = recording_disk(settings, record_unsynced, ignoring=ignore_syncs or ())
    sys.exit(run_daemon(settings, disk, Faults(faults, settings, SystemClock()) if faults else None))


@app.command("check-config")
def check_config(config: ConfigOption = None, as_json: JsonFlag = False) -> None:
    """Say everything that is wrong with the settings and with what they point at; exit 2 if anything is."""
    from dwd.config.check import check
    from dwd.config.load import load
    from dwd.runtime.clock import SystemClock

    faults = check(load(config, os.environ), clock=SystemClock())
    if as_json:
        say(json.dumps({"faults": [{"path": f.path, "message": f.message, "hint": f.hint} for f in faults]}))
    else:
        for fault in faults:
            say(str(fault))
        about = config or "no file given: the defaults and DWD_ variables"
        count = "one fault" if len(faults) == 1 else f"{len(faults)} faults"
        say(f"{about}: {count}" if faults else f"{about}: the settings are good")
    if faults:
        raise typer.Exit(Exit.USAGE)


@app.command("config")
def show_config() -> None:
    """Print a settings file that explains every key, with the defaults."""
    from dwd.config.document import document

    say(document().rstrip("\n"))


def print_version(*, asked: bool) -> None:
    if asked:
        say(f"dwd {VERSION}")
        raise typer.Exit


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    """Entry point: errors are printed with what to do next, the exit code says their kind."""
    # Both are read when grpc is imported. Its core else prints beside the log, and passes what it receives through two
    # threads more: a frame that comes and an answer cost 240 us of processor then, 165 us so (docs/design).
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
    try:
        app()
    except DwError as error:
        sys.stderr.write(report(error))
        sys.exit(exit_code(error))


if __name__ == "__main__":
    main()
