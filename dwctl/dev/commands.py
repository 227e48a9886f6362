"""dwctl dev: up, run, status, down, and faults on purpose: kill, stop, start, pause, resume."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from dwctl.context import find_cluster, forget
from dwctl.dev import cluster, processes
from dwctl.dev.layout import NODES_MAX, DevFolder, Plan, daemon_names, load_plan
from dwctl.dev.live import watch
from dwctl.session import ContextOption, JsonFlag, output
from dwctl.tables import Column, table
from dwd.base.errors import Busy, DwError

app = typer.Typer(
    name="dev", help="A development cluster on this machine: run it, watch it, break it.", no_args_is_help=True
)
DirOption = Annotated[Path | None, typer.Option("--dir", help="The cluster's directory; default: the context's.")]
NodeArgument = Annotated[str, typer.Argument(help="A node: its name (n2), id, or number.")]
NodesOption = Annotated[int, typer.Option(min=1, max=NODES_MAX, help="How many daemons.")]
ProfileOption = Annotated[str, typer.Option(help="Default profile of buckets: auto, rs-4-2, replica-3 ...")]
ShardsOption = Annotated[
    int, typer.Option(min=1, max=1024, help="Groups that object metadata begins spread over; of a new cluster.")
]
DEFAULT_DIR = Path("data")


def folder_of(chosen: Path | None, context: str | None) -> DevFolder:
    """The folder named by --dir, or the one of the cluster that dwctl talks to."""
    return DevFolder(root=chosen if chosen is not None else find_cluster(context).path.parent)


@contextmanager
def alone(folder: DevFolder) -> Iterator[None]:
    """One command at a time on a directory. The lock goes with the process that held it, however it ends."""
    folder.root.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder.root, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise Busy(
            "dev.locked",
            f"another dwctl dev works on {folder.root}",
            hint="wait for it; `dwctl dev down` ends a `dwctl dev run`",
        ) from error
    finally:
        os.close(descriptor)


@app.command()
def up(
    nodes: NodesOption = 6,
    regions: Annotated[int, typer.Option(help="Regions; one.")] = 1,
    profile: ProfileOption = "auto",
    shards: ShardsOption = 1,
    devices: Annotated[int, typer.Option(min=1, max=16, help="Devices of each node.")] = 1,
    directory: Annotated[Path, typer.Option("--dir", help="Where the cluster lives.")] = DEFAULT_DIR,
    as_json: JsonFlag = False,
) -> None:
    """Start a cluster, or bring back one that was stopped. Returns once S3 answers on every node."""
    cluster.check_size(nodes, regions)
    folder, sink = DevFolder(root=directory), output(as_json)
    with alone(folder), sink.steps() as report:
        document = cluster.up(folder, nodes=nodes, profile=profile, report=report, shards=shards, devices=devices)
    s3 = document["s3"]
    sink.value(
        document,
        f"{len(document['nodes'])} nodes serve\n"
        f"  endpoint    {s3['endpoint']}\n  access key  {s3['access_key']}\n  secret key  {s3['secret_key']}\n"
        f"  region      {s3['region']}\n  directory   {folder.root}\n"
        f"next: dwctl cluster status; stop it with: dwctl dev down --dir {folder.root}",
    )


@app.command()
def run(
    nodes: NodesOption = 6,
    profile: ProfileOption = "auto",
    directory: Annotated[Path, typer.Option("--dir", help="Where the cluster lives.")] = DEFAULT_DIR,
) -> None:
    """Run a cluster in the foreground with a live view; Ctrl-C stops it and keeps the data."""
    folder, sink = DevFolder(root=directory), output(as_json=False)
    with alone(folder), interruptible():
        try:
            with sink.steps() as report:
                document = cluster.up(folder, nodes=nodes, profile=profile, report=report)
            watch(folder, document)
        except KeyboardInterrupt:
            sink.note("stopping")
        finally:
            stop_all(folder)
    sink.note(f"stopped; the data is kept in {folder.root}")


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM and SIGHUP (the terminal went away) end a foreground cluster as Ctrl-C does."""
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def stop_all(folder: DevFolder) -> tuple[list[str], list[str]]:
    """Stop whatever runs, forget the context; the names of all, and of those that had to be killed."""
    names = daemon_names(folder)
    killed = processes.stop(folder, names)
    if folder.plan.exists() and (folder.operator / "s3.json").exists():
        with suppress(DwError):  # a damaged directory is stopped all the same
            cluster.write_cluster(folder, load_plan(folder))
    forget(folder.cluster)
    return names, killed


@app.command()
def status(directory: DirOption = None, context: ContextOption = None, as_json: JsonFlag = False) -> None:
    """Show the daemons: pid, state, whether they serve."""
    folder = folder_of(directory, context)
    found = cluster.views(folder, load_plan(folder))
    columns = (
        "node",
        Column(name="state", is_state=True),
        "ready",
        Column(name="pid", is_number=True),
        "s3",
        Column(name="grpc", rank=1),
        Column(name="admin", rank=2),
        Column(name="id", rank=3, is_id=True),
    )
    rows = (
        (
            v.node.name,
            v.state.value,
            "yes" if v.ready else "no",
            str(v.pid or "-"),
            v.node.s3,
            v.node.grpc,
            v.node.admin,
            v.id or "-",
        )
        for v in found
    )
    output(as_json).table(table("nodes", columns, rows), {"nodes": [cluster.view_document(v) for v in found]})


@app.command()
def down(directory: DirOption = None, context: ContextOption = None, as_json: JsonFlag = False) -> None:
    """Stop every daemon; the data stays. Does nothing where nothing runs."""
    folder = folder_of(directory, context)
    names, killed = stop_all(folder)
    remark = f" ({', '.join(killed)} had to be killed)" if killed else ""
    said = f"stopped {len(names)} nodes{remark}; the data is kept" if names else "nothing to stop"
    output(as_json).value({"stopped": names, "killed": killed}, f"{folder.root}: {said}")


@app.command()
def kill(
    node: NodeArgument, directory: DirOption = None, context: ContextOption = None, as_json: JsonFlag = False
) -> None:
    """End a daemon with SIGKILL, as a crash would."""
    folder, plan, name = _chosen(directory, context, node)
    processes.signal_node(folder, name, signal.SIGKILL)
    processes.wait_gone(folder, [name], processes.STOP_SECONDS)
    _done(folder, plan, name, "killed", as_json=as_json)


@app.command()
def stop(
    node: NodeArgument, directory: DirOption = None, context: ContextOption = None, as_json: JsonFlag = False
) -> None:
    """Stop a daemon in good order."""
    folder, plan, name = _chosen(directory, context, node)
    processes.stop(folder, [name])
    _done(folder, plan, name, "stopped", as_json=as_json)


@app.command()
def start(
    node: NodeArgument, directory: DirOption = None, context: ContextOption = None, as_json: JsonFlag = False
) -> None:
    """Start a daemon and wait until it serves."""
    folder, plan, name = _chosen(directory, context, node)
    processes.start(folder, name)
    cluster.wait_ready(folder, [n for n in plan.nodes if n.name == name], output(as_json).note)
    _done(folder, plan, name, "started", as_json=as_json)


@app.command()
def pause(
    node: NodeArgument, directory: DirOption = None, context: ContextOption = None, as_json: JsonFlag = False
) -> None:
    """Freeze a daemon with SIGSTOP: it keeps its connections and says nothing."""
    folder, plan, name = _chosen(directory, context, node)
    processes.signal_node(folder, name, signal.SIGSTOP)
    _done(folder, plan, name, "paused", as_json=as_json)


@app.command()
def resume(
    node: NodeArgument, directory: DirOption = None, context: ContextOption = None, as_json: JsonFlag = False
) -> None:
    """Wake a paused daemon."""
    folder, plan, name = _chosen(directory, context, node)
    processes.signal_node(folder, name, signal.SIGCONT)
    _done(folder, plan, name, "resumed", as_json=as_json)


def _chosen(directory: Path | None, context: str | None, node: str) -> tuple[DevFolder, Plan, str]:
    folder = folder_of(directory, context)
    plan = load_plan(folder)
    return folder, plan, cluster.select(folder, plan, node).name


def _done(folder: DevFolder, plan: Plan, name: str, what: str, *, as_json: bool) -> None:
    cluster.write_cluster(folder, plan)
    state = processes.process_state(folder, name).value
    output(as_json).value({"node": name, "action": what, "state": state}, f"{name} {what}")
