"""Where a development cluster keeps things, and the plan that `up` writes before it starts anything.

DIR/dev.json          the plan: nodes, ports, profile; written first, so every later step can be repeated
DIR/cluster.json      what clients and dwctl read; written anew whenever processes come and go
DIR/operator/         authority.pem, operator.pem, operator.key, s3.json (first access key)
DIR/n1/ ... nK/       dwd.toml, identity/, data/, dwd.log, dwd.pid
"""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path

from dwctl.files import write_whole
from dwd.base.errors import Busy, InvalidArgument, NotFound

NODES_MAX = 64
PORTS_FIRST, PORTS_LAST = 20_000, 32_000
"""Below the range from which systems hand out ports to outgoing connections, so that a stopped node's stay free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DevNode:
    """One planned daemon."""

    name: str
    zone: str
    grpc: str
    s3: str
    admin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What `up` was asked for. Once written it does not change: the same directory is the same cluster."""

    cluster: str
    profile: str
    nodes: tuple[DevNode, ...]
    shards: int = 1
    devices: int = 1
    """Of each node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DevFolder:
    """Paths below DIR."""

    root: Path

    @property
    def plan(self) -> Path:
        return self.root / "dev.json"

    @property
    def cluster(self) -> Path:
        return self.root / "cluster.json"

    @property
    def operator(self) -> Path:
        return self.root / "operator"

    def node(self, name: str) -> Path:
        return self.root / name

    def config(self, name: str) -> Path:
        return self.node(name) / "dwd.toml"

    def identity(self, name: str) -> Path:
        return self.node(name) / "identity"

    def data(self, name: str) -> Path:
        return self.node(name) / "data"

    def log(self, name: str) -> Path:
        return self.node(name) / "dwd.log"

    def pid(self, name: str) -> Path:
        return self.node(name) / "dwd.pid"


def load_plan(folder: DevFolder) -> Plan:
    """Raises NotFound when there is no development cluster, InvalidArgument when its plan is damaged."""
    try:
        document = json.loads(folder.plan.read_text())
        nodes = tuple(DevNode(**n) for n in document["nodes"])
        return Plan(
            cluster=document["cluster"],
            profile=document["profile"],
            nodes=nodes,
            shards=int(document.get("shards", 1)),
            devices=int(document.get("devices", 1)),
        )
    except OSError as error:
        raise NotFound(
            "dev.no_cluster",
            f"no development cluster in {folder.root}",
            hint="`dwctl dev up --dir DIR` makes one; for any other cluster see `dwctl cluster status`",
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidArgument(
            "dev.plan_damaged",
            f"{folder.plan} cannot be read: {type(error).__name__} {error}",
            hint=f"`dwctl dev down --dir {folder.root}` still stops its daemons; then use another directory",
        ) from error


def daemon_names(folder: DevFolder) -> list[str]:
    """Every node that may have a daemon, whatever state the directory is in: those planned, those with a pid file."""
    try:
        planned = [node.name for node in load_plan(folder).nodes]
    except (NotFound, InvalidArgument):
        planned = []
    strays = sorted(path.parent.name for path in folder.root.glob("*/dwd.pid"))
    return [*planned, *(name for name in strays if name not in planned)]


def make_plan(folder: DevFolder, *, nodes: int, profile: str, shards: int = 1, devices: int = 1) -> Plan:
    """Choose free ports, spread nodes over zones, write the plan durably."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(3 * nodes)]
    planned = tuple(
        DevNode(
            name=f"n{i + 1}",
            zone=f"z{i + 1}",
            grpc=addresses[3 * i],
            s3=addresses[3 * i + 1],
            admin=addresses[3 * i + 2],
        )
        for i in range(nodes)
    )
    plan = Plan(cluster=folder.root.resolve().name, profile=profile, nodes=planned, shards=shards, devices=devices)
    write_whole(folder.plan, json.dumps(asdict(plan), indent=2) + "\n")
    return plan


def free_ports(count: int) -> list[int]:
    """`count` ports of loopback nobody listens on. The start depends on the process, so that clusters made side by side
    look in different places; each port is proved free by binding all of them at once.
    """
    held: list[socket.socket] = []
    try:
        span = PORTS_LAST - PORTS_FIRST
        start = (os.getpid() * 97) % span
        for step in range(span):
            if len(held) == count:
                break
            candidate = socket.socket()
            try:
                candidate.bind(("127.0.0.1", PORTS_FIRST + (start + step) % span))
                held.append(candidate)
            except OSError:
                candidate.close()
        if len(held) < count:
            raise Busy(
                "dev.no_ports",
                f"fewer than {count} free ports between {PORTS_FIRST} and {PORTS_LAST}",
                hint="stop something, or make a smaller cluster",
            )
        return [s.getsockname()[1] for s in held]
    finally:
        for s in held:
            s.close()


def write_config(folder: DevFolder, plan: Plan, node: DevNode) -> None:
    """The node's dwd.toml; the same keys a real installation uses."""
    lines = [
        "# Written by dwctl dev up; deploy/dwd.toml explains every key.",
        "[node]",
        f"name = {json.dumps(node.name)}",
        f"data_dir = {json.dumps(str(folder.data(node.name).resolve()))}",
        f"identity_dir = {json.dumps(str(folder.identity(node.name).resolve()))}",
        f"zone = {json.dumps(node.zone)}",
        "",
        "[listen]",
        f"grpc = {json.dumps(node.grpc)}",
        f"s3 = {json.dumps(node.s3)}",
        f"admin = {json.dumps(node.admin)}",
        "",
        "[s3]",
        f"default_profile = {json.dumps(plan.profile)}",
        "customer_keys_over_http = true",
        "",
        "[blocks]",
        "layout_settle_seconds = 0.5",
        "layout_retire_seconds = 5.0",
        "",
        "[telemetry]",
        'log_format = "json"',
        "",
        *_device_lines(folder.data(node.name).resolve(), plan.devices),
    ]
    write_whole(folder.config(node.name), "\n".join(lines))


def _device_lines(data: Path, devices: int) -> list[str]:
    """One is what a node has unless told otherwise."""
    if devices == 1:
        return []
    paths = [data / "devices" / f"d{number}" for number in range(devices)]
    return [line for path in paths for line in ("[[device]]", f"path = {json.dumps(str(path))}", "")]
