"""Which cluster a command talks to: `--context`, then `DWCTL_CLUSTER`, then the current context, which the last
`dwctl context use` or `dwctl dev up` chose.

A context is a cluster.json: addresses of nodes and where the operator's certificate lies. Contexts have names, kept as
files `NAME.json` (each holding the path of a cluster.json) under `$XDG_CONFIG_HOME/dwctl/contexts`; the file `current`
beside that folder names the one used by default.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dwctl.files import write_whole
from dwd.base.errors import DwError, InvalidArgument, NotFound

ENVIRONMENT = "DWCTL_CLUSTER"


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeEntry:
    """One element of `nodes` in cluster.json."""

    id: str
    name: str
    grpc: str
    s3: str
    admin: str
    data_dir: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterContext:
    """A cluster.json, read."""

    path: Path
    nodes: tuple[NodeEntry, ...]
    authority: Path
    certificate: Path
    key: Path
    document: Mapping[str, Any]

    @property
    def recovery_epoch(self) -> int:
        """The latest that was seen; nodes of an older one were left behind by a recovery."""
        return int(self.document.get("recovery_epoch", 0))


def config_home() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "dwctl"


def find_cluster(chosen: str | None) -> ClusterContext:
    """The cluster meant by `--context` (a name or a path), the environment, or the current context."""
    wanted = chosen or os.environ.get(ENVIRONMENT) or _current()
    if not wanted:
        raise NotFound(
            "context.none",
            "no cluster is chosen",
            hint="`dwctl context use DIR` takes the operator's directory that `dwd init` wrote; `dwctl dev up` makes a "
            "cluster to try; `dwctl context list` shows what is known",
        )
    return read_cluster(resolve(wanted))


def resolve(wanted: str) -> Path:
    """The cluster.json behind a path, a directory holding one, or a context name."""
    path = Path(wanted)
    if path.is_dir():
        path /= "cluster.json"
    if path.is_file():
        return path
    named = config_home() / "contexts" / f"{wanted}.json"
    if "/" not in wanted and named.is_file():
        return _target(named)
    raise NotFound(
        "context.not_found",
        f"no cluster.json and no context at {wanted!r}",
        hint="`dwctl context list` shows the contexts",
    )


def read_cluster(path: Path) -> ClusterContext:
    """Parse a cluster.json. Raises InvalidArgument naming what is missing."""
    try:
        document = json.loads(path.read_text())
        operator = document["operator"]
        nodes = tuple(
            NodeEntry(
                id=n["id"],
                name=n.get("name", n["id"]),
                grpc=n["grpc"],
                s3=n.get("s3", ""),
                admin=n.get("admin", ""),
                data_dir=n.get("data_dir", ""),
            )
            for n in document["nodes"]
        )
        base = path.parent
        return ClusterContext(
            path=path,
            nodes=nodes,
            authority=base / operator["authority"],
            certificate=base / operator["certificate"],
            key=base / operator["key"],
            document=document,
        )
    except OSError as error:
        raise NotFound(
            "context.unreadable",
            f"cannot read {path}: {error.strerror}",
            hint="`dwctl context list` shows the contexts",
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidArgument(
            "context.malformed",
            f"{path} is not a cluster.json: {type(error).__name__} {error}",
            hint="`dwd init` and `dwctl dev up` write such files",
        ) from error


def learn(context: ClusterContext, found: Iterable[NodeEntry], *, recovery_epoch: int = 0) -> bool:
    """Add nodes that joined, addresses that changed and a later recovery epoch to the cluster.json: so that dwctl finds
    the cluster when the nodes it began with are down, and passes over those a recovery left behind. Nothing is removed.
    False when there was nothing new, or the file is not ours to write: then the next call learns it.
    """
    rows = {row["id"]: dict(row) for row in context.document["nodes"]}
    if "" in rows:
        return False  # a development cluster in the making: `dev up` writes this file
    for node in found:
        known = rows.setdefault(node.id, {"id": node.id, "data_dir": ""})
        told = {"name": node.name, "grpc": node.grpc, "s3": node.s3, "admin": node.admin}
        known.update({name: value for name, value in told.items() if value})
    epoch = max(context.recovery_epoch, recovery_epoch)
    if list(rows.values()) == context.document["nodes"] and epoch == context.recovery_epoch:
        return False
    known_epoch = {"recovery_epoch": epoch} if epoch else {}
    content = json.dumps({**context.document, "nodes": list(rows.values()), **known_epoch}, indent=2) + "\n"
    try:
        write_whole(context.path, content, mode=0o600)
    except OSError:
        return False
    return True


def remember(name: str, cluster: Path) -> str:
    """Store `cluster` as context `name` and make it the current one. A name that another cluster has, whose files are
    still there, is left to it: then with a number. Returns the name it got.
    """
    home = config_home()
    name = _free_name(name, cluster)
    try:
        (home / "contexts").mkdir(parents=True, exist_ok=True)
        write_whole(home / "contexts" / f"{name}.json", json.dumps({"cluster": str(cluster.resolve())}) + "\n")
        write_whole(home / "current", name + "\n")
    except OSError as error:
        raise DwError(
            "context.unwritable",
            f"cannot write under {home}: {error.strerror}",
            hint=f"set XDG_CONFIG_HOME to a directory of yours, or give --context or {ENVIRONMENT} each time",
        ) from error
    return name


def _free_name(name: str, cluster: Path) -> str:
    wanted, number = name, 2
    while not _is_free(wanted, cluster):
        wanted, number = f"{name}-{number}", number + 1
    return wanted


def _is_free(name: str, cluster: Path) -> bool:
    try:
        target = _target(config_home() / "contexts" / f"{name}.json")
    except InvalidArgument:
        return True
    return target == cluster.resolve() or not target.exists()


def forget(cluster: Path) -> None:
    """Remove the contexts that point at `cluster`."""
    for file in _files():
        try:
            found = _target(file) == cluster.resolve()
        except InvalidArgument:
            continue  # of no use, but perhaps not ours to remove
        if found:
            forget_name(file.stem)


def forget_name(name: str) -> None:
    """Remove one context; when it was the current one, there is none."""
    home = config_home()
    (home / "contexts" / f"{name}.json").unlink(missing_ok=True)
    if _current() == name:
        (home / "current").unlink(missing_ok=True)


def contexts() -> dict[str, tuple[str, bool]]:
    """Name to (cluster.json, whether it is the current one)."""
    current = _current()
    return {file.stem: (str(_target(file)), file.stem == current) for file in _files()}


def _files() -> list[Path]:
    return sorted((config_home() / "contexts").glob("*.json"))


def _current() -> str:
    try:
        return (config_home() / "current").read_text().strip()
    except OSError:
        return ""


def _target(file: Path) -> Path:
    """The cluster.json a context names. Raises InvalidArgument when its file is damaged."""
    try:
        return Path(json.loads(file.read_text())["cluster"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidArgument(
            "context.damaged",
            f"{file} does not name a cluster",
            hint="remove it, then `dwctl context use CLUSTER.JSON`",
        ) from error
