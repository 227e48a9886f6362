"""Bring a development cluster up, step by step; every step may be repeated, so an interrupted `up` is run again."""

from __future__ import annotations

import http.client
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dwctl.context import read_cluster, remember
from dwctl.dev import processes
from dwctl.dev.layout import DevFolder, DevNode, Plan, load_plan, make_plan, write_config, write_whole
from dwctl.session import connected
from dwd.base.errors import DwError, InvalidArgument, NotFound, Unavailable

READY_SECONDS = 60.0
SETTLE_SECONDS = 120.0
POLL_SECONDS = 0.1
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeView:
    """A node as `dev status` shows it."""

    node: DevNode
    id: str
    pid: int | None
    state: processes.ProcessState
    ready: bool


def up(folder: DevFolder, *, nodes: int, profile: str, report: Report) -> dict[str, Any]:
    """Start (or finish starting) the cluster; returns cluster.json once every node answers S3 and data is placeable."""
    folder.root.mkdir(parents=True, exist_ok=True)
    if folder.plan.exists():
        plan = load_plan(folder)
        if len(plan.nodes) != nodes:
            report(f"{folder.root} holds a cluster of {len(plan.nodes)} nodes: going on with it")
    else:
        plan = make_plan(folder, nodes=nodes, profile=profile)
    for node in plan.nodes:
        folder.node(node.name).mkdir(parents=True, exist_ok=True)
        write_config(folder, plan, node)
    first, *others = plan.nodes
    initialise(folder, plan, first, report)
    processes.start(folder, first.name)
    write_cluster(folder, plan)
    wait_ready(folder, [first], report)
    join_all(folder, plan, others, report)
    for node in others:
        processes.start(folder, node.name)
    write_cluster(folder, plan)
    wait_ready(folder, list(plan.nodes), report)
    wait_settled(folder, plan, report)
    remember(folder.root.resolve().name, folder.cluster)
    return write_cluster(folder, plan)


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
    )


def join_all(folder: DevFolder, plan: Plan, others: list[DevNode], report: Report) -> None:
    """A join token and `dwd join` for every node that has not joined; repeating one is harmless."""
    waiting = [n for n in others if not (folder.identity(n.name) / "identity.json").exists()]
    for node in waiting:
        report(f"joining {node.name} ({plan.nodes.index(node) + 1} of {len(plan.nodes)})")
        with connected(read_cluster(folder.cluster)) as client:
            token = client.call(client.stub.CreateJoinToken, client.pb.CreateJoinTokenRequest(minutes=10)).token
        processes.run_daemon_command("join", token, "--config", str(folder.config(node.name).resolve()))


def wait_ready(folder: DevFolder, nodes: list[DevNode], report: Report) -> None:
    """Until each node's /health/ready says yes. Raises Unavailable with the log's end when a daemon ended instead."""
    deadline = time.monotonic() + READY_SECONDS
    waiting = list(nodes)
    report("waiting for " + ", ".join(n.name for n in waiting))
    while waiting:
        for node in list(waiting):
            if is_ready(node):
                waiting.remove(node)
            elif processes.live_pid(folder, node.name) is None:
                said = processes.log_tail(folder, node.name)
                raise Unavailable(
                    "dev.daemon_ended",
                    f"{node.name} ended while starting:\n{said}",
                    hint=f"see {folder.log(node.name)}",
                )
        if waiting and time.monotonic() > deadline:
            names = ", ".join(n.name for n in waiting)
            raise Unavailable(
                "dev.not_ready", f"not ready after {READY_SECONDS:.0f} s: {names}", hint="run the same command again"
            )
        time.sleep(POLL_SECONDS if waiting else 0)


def is_ready(node: DevNode) -> bool:
    """Whether the node says that it serves and its S3 listener answers."""
    return answers(node.admin, "/health/ready", 200) and answers(node.s3, "/", 403)


def answers(address: str, path: str, status: int) -> bool:
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
    report("waiting for voters and layout")
    voters = min(5, len(plan.nodes) - (len(plan.nodes) + 1) % 2)
    deadline = time.monotonic() + SETTLE_SECONDS
    missing = "no status"
    while time.monotonic() < deadline:
        try:
            with connected(read_cluster(folder.cluster)) as client:
                found = client.call(client.stub.ClusterStatus, client.pb.ClusterStatusRequest())
        except DwError as error:
            missing = str(error)
        else:
            active = sum(d.state == "active" for d in found.devices)
            counts = [sum(m.role == "voter" for m in g.members) for g in found.groups]
            missing = f"{active} of {len(plan.nodes)} devices active, voters {counts}, want {voters} each"
            if active == len(plan.nodes) and len(counts) > 1 and min(counts) == voters and found.health == "healthy":
                return
        time.sleep(POLL_SECONDS)
    raise Unavailable(
        "dev.not_settled", f"the cluster runs but has not settled: {missing}", hint="see `dwctl cluster status`"
    )


def views(folder: DevFolder, plan: Plan, *, probe: bool = True) -> list[NodeView]:
    """Every node with its process and whether it serves."""
    found = []
    for node in plan.nodes:
        state = processes.process_state(folder, node.name)
        ready = probe and state is processes.ProcessState.RUNNING and is_ready(node)
        pid = processes.live_pid(folder, node.name)
        found.append(NodeView(node=node, id=node_id(folder, node.name), pid=pid, state=state, ready=ready))
    return found


def node_id(folder: DevFolder, name: str) -> str:
    """The id minted when the node was initialised or joined; empty before."""
    try:
        return str(json.loads((folder.identity(name) / "identity.json").read_text())["node_id"])
    except (OSError, ValueError, KeyError):
        return ""


def write_cluster(folder: DevFolder, plan: Plan) -> dict[str, Any]:
    """cluster.json as it is now: endpoints, keys, processes. Readable by its owner only: it holds a secret."""
    try:
        key = json.loads((folder.operator / "s3.json").read_text())
    except OSError as error:
        raise NotFound(
            "dev.no_credentials", f"no access key in {folder.operator}", hint="run `dwctl dev up` again"
        ) from error
    document = {
        "cluster": plan.cluster,
        "s3": {
            "endpoint": f"http://{plan.nodes[0].s3}",
            "endpoints": [f"http://{n.s3}" for n in plan.nodes],
            "access_key": key["access_key"],
            "secret_key": key["secret_key"],
            "region": key["region"],
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
    write_whole(folder.cluster, json.dumps(document, indent=2) + "\n", mode=0o600)
    return document


def select(folder: DevFolder, plan: Plan, wanted: str) -> DevNode:
    """The node meant by a name ("n2"), an id, or a number ("2"). Raises NotFound."""
    for position, node in enumerate(plan.nodes, 1):
        if wanted in {node.name, str(position), node_id(folder, node.name)}:
            return node
    raise NotFound("dev.no_such_node", f"no node {wanted!r}", hint="one of " + ", ".join(n.name for n in plan.nodes))


def check_size(nodes: int, regions: int) -> None:
    """Raises InvalidArgument for sizes this command does not make."""
    if regions != 1:
        raise InvalidArgument("dev.one_region", "a development cluster has one region", hint="leave --regions out")
    if nodes < 1:
        raise InvalidArgument("dev.no_nodes", "a cluster has at least one node")
