"""dwctl dev: up, run, status, down, and faults on purpose: kill, stop, start, pause, resume."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from dwctl.context import find_cluster, forget
from dwctl.dev import cluster, processes
from dwctl.dev.layout import NODES_MAX, DevFolder, Plan, load_plan
from dwctl.dev.live import watch
from dwctl.session import JsonFlag, output
from dwd.base.errors import Busy

app = typer.Typer(name="dev", help="A development cluster on this machine.", no_args_is_help=True)
DirOption = Annotated[
    Path | None, typer.Option("--dir", help="The cluster's directory; default: the current context's.")
]
NodeArgument = Annotated[str, typer.Argument(help="A node: its name (n2), id, or number.")]
NodesOption = Annotated[int, typer.Option(min=1, max=NODES_MAX, help="How many daemons.")]
ProfileOption = Annotated[str, typer.Option(help="Default profile of buckets: auto, rs-4-2, replica-3 ...")]
DEFAULT_DIR = Path("data")


def folder_of(chosen: Path | None) -> DevFolder:
    """The folder named by --dir, or the one of the cluster that dwctl talks to."""
    return DevFolder(root=chosen if chosen is not None else find_cluster(None).path.parent)


@contextmanager
def alone(folder: DevFolder) -> Iterator[None]:
    """One command at a time on a directory. The lock goes with the process that held it, however it ends."""
    folder.root.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder.root, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise Busy("dev.locked", f"another dwctl dev works on {folder.root}", hint="wait for it, or end it") from error
    finally:
        os.close(descriptor)


@app.command()
def up(
    nodes: NodesOption = 6,
    regions: Annotated[int, typer.Option(help="Regions; one.")] = 1,
    profile: ProfileOption = "auto",
    directory: Annotated[Path, typer.Option("--dir", help="Where the cluster lives.")] = DEFAULT_DIR,
    as_json: JsonFlag = False,
) -> None:
    """Start a cluster, or bring back one that was stopped. Returns once S3 answers on every node."""
    cluster.check_size(nodes, regions)
    folder, sink = DevFolder(root=directory), output(as_json)
    with alone(folder):
        document = cluster.up(folder, nodes=nodes, profile=profile, report=sink.note)
    s3 = document["s3"]
    sink.value(
        document,
        f"{len(document['nodes'])} nodes serve\n"
        f"  endpoint    {s3['endpoint']}\n  access key  {s3['access_key']}\n  secret key  {s3['secret_key']}\n"
        f"  region      {s3['region']}\n  directory   {folder.root}\nnext: dwctl cluster status",
    )


@app.command()
def run(
    nodes: NodesOption = 6,
    profile: ProfileOption = "auto",
    directory: Annotated[Path, typer.Option("--dir", help="Where the cluster lives.")] = DEFAULT_DIR,
) -> None:
    """Run a cluster in the foreground with a live view; Ctrl-C stops it and keeps the data."""
    folder, sink = DevFolder(root=directory), output(as_json=False)
    with alone(folder):
        try:
            document = cluster.up(folder, nodes=nodes, profile=profile, report=sink.note)
            watch(folder, document)
        except KeyboardInterrupt:
            sink.note("stopping")
        finally:
            if folder.plan.exists():
                processes.stop(folder, [n.name for n in load_plan(folder).nodes])
    sink.note(f"stopped; the data is kept in {folder.root}")


@app.command()
def status(directory: DirOption = None, as_json: JsonFlag = False) -> None:
    """Show the daemons: pid, state, whether they serve."""
    folder = folder_of(directory)
    found = cluster.views(folder, load_plan(folder))
    output(as_json).table(
        f"Development cluster in {folder.root}",
        ("node", "id", "pid", "state", "ready", "s3", "grpc", "admin"),
        (
            (
                v.node.name,
                v.id or "-",
                str(v.pid or "-"),
                v.state.value,
                "yes" if v.ready else "no",
                v.node.s3,
                v.node.grpc,
                v.node.admin,
            )
            for v in found
        ),
        {
            "nodes": [
                {
                    "id": v.id,
                    "name": v.node.name,
                    "pid": v.pid,
                    "state": v.state.value,
                    "ready": v.ready,
                    "s3": v.node.s3,
                }
                | {"grpc": v.node.grpc, "admin": v.node.admin}
                for v in found
            ]
        },
    )


@app.command()
def down(directory: DirOption = None, as_json: JsonFlag = False) -> None:
    """Stop every daemon; the data stays. Does nothing where nothing runs."""
    folder = folder_of(directory)
    plan = load_plan(folder)
    killed = processes.stop(folder, [n.name for n in plan.nodes])
    if (folder.operator / "s3.json").exists():
        cluster.write_cluster(folder, plan)
    forget(folder.cluster)
    remark = f" ({', '.join(killed)} had to be killed)" if killed else ""
    output(as_json).value(
        {"stopped": [n.name for n in plan.nodes], "killed": killed}, f"stopped {len(plan.nodes)} nodes{remark}"
    )


@app.command()
def kill(node: NodeArgument, directory: DirOption = None, as_json: JsonFlag = False) -> None:
    """End a daemon with SIGKILL, as a crash would."""
    folder, plan, name = _chosen(directory, node)
    processes.signal_node(folder, name, signal.SIGKILL)
    processes.wait_gone(folder, [name], processes.STOP_SECONDS)
    _done(folder, plan, name, "killed", as_json=as_json)


@app.command()
def stop(node: NodeArgument, directory: DirOption = None, as_json: JsonFlag = False) -> None:
    """Stop a daemon in good order."""
    folder, plan, name = _chosen(directory, node)
    processes.stop(folder, [name])
    _done(folder, plan, name, "stopped", as_json=as_json)


@app.command()
def start(node: NodeArgument, directory: DirOption = None, as_json: JsonFlag = False) -> None:
    """Start a daemon and wait until it serves."""
    folder, plan, name = _chosen(directory, node)
    processes.start(folder, name)
    cluster.wait_ready(folder, [n for n in plan.nodes if n.name == name], output(as_json).note)
    _done(folder, plan, name, "started", as_json=as_json)


@app.command()
def pause(node: NodeArgument, directory: DirOption = None, as_json: JsonFlag = False) -> None:
    """Freeze a daemon with SIGSTOP: it keeps its connections and says nothing."""
    folder, plan, name = _chosen(directory, node)
    processes.signal_node(folder, name, signal.SIGSTOP)
    _done(folder, plan, name, "paused", as_json=as_json)


@app.command()
def resume(node: NodeArgument, directory: DirOption = None, as_json: JsonFlag = False) -> None:
    """Wake a paused daemon."""
    folder, plan, name = _chosen(directory, node)
    processes.signal_node(folder, name, signal.SIGCONT)
    _done(folder, plan, name, "resumed", as_json=as_json)


def _chosen(directory: Path | None, node: str) -> tuple[DevFolder, Plan, str]:
    folder = folder_of(directory)
    plan = load_plan(folder)
    return folder, plan, cluster.select(folder, plan, node).name


def _done(folder: DevFolder, plan: Plan, name: str, what: str, *, as_json: bool) -> None:
    cluster.write_cluster(folder, plan)
    state = processes.process_state(folder, name).value
    output(as_json).value({"node": name, "action": what, "state": state}, f"{name} {what}")
