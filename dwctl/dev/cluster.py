"""Bring a development cluster up, step by step; every step may be repeated, so an interrupted `up` is run again."""

from __future__ import annotations

import json
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dwctl.context import read_cluster, remember
from dwctl.dev import processes
from dwctl.dev.layout import DevFolder, DevNode, Plan, load_plan, make_plan, write_config
from dwctl.files import write_whole
from dwctl.session import connected
from dwd.base.errors import DwError, InvalidArgument, NotFound, Unavailable

if TYPE_CHECKING:
    from dwd.pb.admin.v1 import admin_pb2

READY_SECONDS = 60.0
SETTLE_SECONDS = 120.0
SHARD_SECONDS = 1.0
"""More of either for each shard: a loaded machine takes so long to make a group's replica on each node."""
POLL_SECONDS = 0.15
SETTLE_POLL_SECONDS = 0.25
JOINS_AT_ONCE = 4
"""Each is a process that imports for most of its time: more than a machine's cores only take turns."""
TOKEN_MINUTES = 10
VOTERS_MAX = 5
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """A node as `dev status` shows it."""

    node: DevNode
    id: str
    pid: int | None
    state: processes.ProcessState
    ready: bool


def up(
    folder: DevFolder,
    *,
    nodes: int,
    profile: str,
    report: Report,
    shards: int = 1,
    devices: int = 1,
    options: Sequence[str] = (),
) -> dict[str, Any]:
    """Start (or finish starting) the cluster; returns cluster.json once every node answers S3 and data is placeable.
    `options` go to every `dwd run`: a test injects faults that way.
    """
    folder.root.mkdir(parents=True, exist_ok=True)
    if folder.plan.exists():
        plan = load_plan(folder)
        if len(plan.nodes) != nodes:
            report(f"{folder.root} holds a cluster of {len(plan.nodes)} nodes: going on with it")
    else:
        plan = make_plan(folder, nodes=nodes, profile=profile, shards=shards, devices=devices)
    for node in plan.nodes:
        folder.node(node.name).mkdir(parents=True, exist_ok=True)
        write_config(folder, plan, node)
    first, *others = plan.nodes
    initialise(folder, plan, first, report)
    newcomers = [n for n in others if not node_id(folder, n.name)]
    for node in plan.nodes:
        if node not in newcomers:
            wake(folder, node, options)
    write_cluster(folder, plan)
    if newcomers:
        wait_ready(folder, [first], report, shards=plan.shards)
        join_all(folder, newcomers, report, options)
    write_cluster(folder, plan)
    wait_ready(folder, list(plan.nodes), report, shards=plan.shards)
    wait_settled(folder, plan, report)
    remember(folder.root.resolve().name, folder.cluster)
    return write_cluster(folder, plan)


def wake(folder: DevFolder, node: DevNode, options: Sequence[str] = ()) -> None:
    """Start the daemon, or let it go on if it is paused."""
    processes.start(folder, node.name, *options)
    if processes.process_state(folder, node.name) is processes.ProcessState.PAUSED:
        processes.signal_node(folder, node.name, signal.SIGCONT)


def initialise(folder: DevFolder, plan: Plan, first: DevNode, report: Report) -> None:
    """`dwd init` on the first node; a half-made one (nothing can have joined it) is made anew."""
    if (folder.operator / "s3.json").exists():
        return
    report(f"creating cluster {plan.cluster}")
    for left_over in (folder.identity(first.name), folder.data(first.name), folder.operator):
        shutil.rmtree(left_over, ignore_errors=True)
    processes.run_daemon_command(
        "init",
        "--config",
        str(folder.config(first.name).resolve()),
        "--cluster-name",
        plan.cluster,
        "--operator-dir",
        str(folder.operator.resolve()),
        "--shards",
        str(plan.shards),
    )


def join_all(folder: DevFolder, newcomers: list[DevNode], report: Report, options: Sequence[str] = ()) -> None:
    """A token and `dwd join` for every newcomer, side by side, each started as soon as it has joined. Repeating one
    that broke off is harmless. Raises what the first that failed said, once all have ended.
    """
    with connected(read_cluster(folder.cluster)) as client:
        request = client.pb.CreateJoinTokenRequest(minutes=TOKEN_MINUTES)
        tokens = [client.change(client.stub.CreateJoinToken, request).token for _ in newcomers]

    def join(node: DevNode, token: str) -> str:
        processes.run_daemon_command("join", "-", "--config", str(folder.config(node.name).resolve()), stdin=token)
        processes.start(folder, node.name, *options)
        return node.name

    with ThreadPoolExecutor(max_workers=JOINS_AT_ONCE) as pool:
        joining = [pool.submit(join, node, token) for node, token in zip(newcomers, tokens, strict=True)]
        report(f"joining {len(joining)} nodes")
        for done, ended in enumerate(as_completed(joining), 1):
            if ended.exception() is None:
                report(f"{ended.result()} joined ({done} of {len(joining)})")
    for ended in joining:
        ended.result()


def patience(seconds: float, shards: int) -> float:
    """How long to wait for a cluster of so many shards, when one of a single shard is given `seconds`."""
    return seconds + (shards - 1) * SHARD_SECONDS


def wait_ready(folder: DevFolder, nodes: list[DevNode], report: Report, *, shards: int = 1) -> None:
    """Until each node's /health/ready says yes. Raises Unavailable with the log's end when a daemon ended instead."""
    limit = patience(READY_SECONDS, shards)
    deadline = time.monotonic() + limit
    waiting = list(nodes)
    while True:
        report("waiting for " + ", ".join(n.name for n in waiting))
        before = len(waiting)
        while waiting and len(waiting) == before:
            waiting = [n for n in waiting if not is_ready(n)]
            _check_running(folder, waiting)
            if waiting and time.monotonic() > deadline:
                names = ", ".join(n.name for n in waiting)
                raise Unavailable(
                    "dev.not_ready",
                    f"not ready after {limit:.0f} s: {names}",
                    hint=f"see `dwctl cluster status` and {folder.log(waiting[0].name)}, or run the same command again",
                )
            if len(waiting) == before:
                time.sleep(POLL_SECONDS)
        if not waiting:
            return


def _check_running(folder: DevFolder, nodes: list[DevNode]) -> None:
    """Raises Unavailable when one of the daemons has ended."""
    for node in nodes:
        if processes.live_pid(folder, node.name) is None:
            said = processes.log_tail(folder, node.name)
            raise Unavailable(
                "dev.daemon_ended", f"{node.name} ended while starting:\n{said}", hint=f"see {folder.log(node.name)}"
            )


def is_ready(node: DevNode) -> bool:
    """Whether the node says that it serves and its S3 listener answers."""
    return answers(node.admin, "/health/ready", 200) and answers(node.s3, "/", 403)


def answers(address: str, path: str, status: int) -> bool:
    import http.client

    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == status
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def wait_settled(folder: DevFolder, plan: Plan, report: Report) -> None:
    """Until the groups have the voters this size allows and the layout spreads over every node's device."""
    deadline = time.monotonic() + patience(SETTLE_SECONDS, plan.shards)
    told = missing = "the first status"
    report(f"waiting for {missing}")
    while time.monotonic() < deadline:
        try:
            with connected(read_cluster(folder.cluster)) as client:
                while missing and time.monotonic() < deadline:
                    found = client.ask(client.stub.ClusterStatus, client.pb.ClusterStatusRequest())
                    missing = unsettled(found, len(plan.nodes), groups=1 + plan.shards, devices=plan.devices)
                    if missing not in {"", told}:
                        told = missing
                        report(f"waiting for {missing}")
                    time.sleep(SETTLE_POLL_SECONDS if missing else 0)
        except DwError as error:
            missing = str(error)
            time.sleep(SETTLE_POLL_SECONDS)
        if not missing:
            return
    raise Unavailable(
        "dev.not_settled", f"the cluster runs but has not settled: {missing}", hint="see `dwctl cluster status`"
    )


def unsettled(found: admin_pb2.ClusterStatusReply, nodes: int, *, groups: int = 2, devices: int = 1) -> str:
    """What a cluster of `nodes` nodes of `devices` each, and `groups` groups (control is one), still lacks; empty when
    it is as it should be.
    """
    voters = min(VOTERS_MAX, nodes - (nodes + 1) % 2)
    active = sum(d.state == "active" for d in found.devices)
    counts = [sum(m.role == "voter" for m in g.members) for g in found.groups]
    if active < nodes * devices:
        return f"devices: {active} of {nodes * devices} active"
    if len(counts) < groups or min(counts) < voters:
        short = groups - sum(count >= voters for count in counts)
        return f"voters: {short} of {groups} groups have fewer than {voters}"
    return "" if found.health == "healthy" else f"health: {', '.join(found.reasons) or found.health}"


def views(folder: DevFolder, plan: Plan, *, probe: bool = True) -> list[NodeView]:
    """Every node with its process and whether it serves."""
    found = []
    for node in plan.nodes:
        state = processes.process_state(folder, node.name)
        ready = probe and state is processes.ProcessState.RUNNING and is_ready(node)
        pid = processes.live_pid(folder, node.name)
        found.append(NodeView(node=node, id=node_id(folder, node.name), pid=pid, state=state, ready=ready))
    return found


def view_document(view: NodeView) -> dict[str, Any]:
    """For scripts."""
    return {
        "id": view.id,
        "name": view.node.name,
        "pid": view.pid,
        "state": view.state.value,
        "ready": view.ready,
        "s3": view.node.s3,
        "grpc": view.node.grpc,
        "admin": view.node.admin,
    }


def node_id(folder: DevFolder, name: str) -> str:
    """The id minted when the node was initialised or joined; empty before."""
    try:
        return str(json.loads((folder.identity(name) / "identity.json").read_text())["node_id"])
    except (OSError, ValueError, KeyError):
        return ""


def write_cluster(folder: DevFolder, plan: Plan) -> dict[str, Any]:
    """cluster.json as it is now: endpoints, keys, processes. Readable by its owner only: it holds a secret."""
    key = read_key(folder)
    document: dict[str, Any] = {
        "cluster": plan.cluster,
        "s3": {
            "endpoint": f"http://{plan.nodes[0].s3}",
            "endpoints": [f"http://{n.s3}" for n in plan.nodes],
            **key,
        },
        "operator": {
            "authority": "operator/authority.pem",
            "certificate": "operator/operator.pem",
            "key": "operator/operator.key",
        },
        "nodes": [
            {
                "id": view.id,
                "name": view.node.name,
                "region": "local",
                "zone": view.node.zone,
                "pid": view.pid,
                "grpc": view.node.grpc,
                "s3": view.node.s3,
                "admin": view.node.admin,
                "data_dir": str(folder.data(view.node.name).resolve()),
            }
            for view in views(folder, plan, probe=False)
        ],
    }
    epoch = known_epoch(folder)
    if epoch:
        document["recovery_epoch"] = epoch
    write_whole(folder.cluster, json.dumps(document, indent=2) + "\n", mode=0o600)
    return document


def known_epoch(folder: DevFolder) -> int:
    """The recovery epoch that dwctl learnt and wrote into cluster.json; 0 for none."""
    try:
        return int(json.loads(folder.cluster.read_text()).get("recovery_epoch", 0))
    except (OSError, ValueError, TypeError, AttributeError):
        return 0


def read_key(folder: DevFolder) -> dict[str, str]:
    """The first access key. Raises NotFound before `dwd init` wrote it, InvalidArgument when it is damaged."""
    path = folder.operator / "s3.json"
    try:
        found = json.loads(path.read_text())
        return {name: str(found[name]) for name in ("access_key", "secret_key", "region")}
    except OSError as error:
        raise NotFound("dev.no_credentials", f"no access key in {path}", hint="run `dwctl dev up` again") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidArgument("dev.credentials_damaged", f"{path} cannot be read", hint="restore it") from error


def select(folder: DevFolder, plan: Plan, wanted: str) -> DevNode:
    """The node meant by a name ("n2"), an id, or a number ("2"). Raises NotFound."""
    for position, node in enumerate(plan.nodes, 1):
        if wanted and wanted in {node.name, str(position), node_id(folder, node.name)}:
            return node
    raise NotFound("dev.no_such_node", f"no node {wanted!r}", hint="one of " + ", ".join(n.name for n in plan.nodes))


def check_size(nodes: int, regions: int) -> None:
    """Raises InvalidArgument for sizes this command does not make."""
    if regions != 1:
        raise InvalidArgument("dev.one_region", "a development cluster has one region", hint="leave --regions out")
    if nodes < 1:
        raise InvalidArgument("dev.no_nodes", "a cluster has at least one node")
