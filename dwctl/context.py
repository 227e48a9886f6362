"""Which cluster a command talks to: `--context`, then `DWCTL_CLUSTER`, then the last `dwctl dev up`.

A context is a cluster.json: addresses of nodes and where the operator's certificate lies. Contexts have names, kept as
files `NAME.json` (each holding the path of a cluster.json) under `$XDG_CONFIG_HOME/dwctl/contexts`; the file `current`
beside that folder names the one used by default.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def config_home() -> Path:
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "dwctl"


def find_cluster(chosen: str | None) -> ClusterContext:
    """The cluster meant by `--context` (a name or a path), the environment, or the last `dev up`."""
    wanted = chosen or os.environ.get(ENVIRONMENT)
    if not wanted:
        try:
            wanted = (config_home() / "current").read_text().strip()
        except OSError:
            raise NotFound(
                "context.none",
                "no cluster is chosen",
                hint=f"start one with `dwctl dev up --dir DIR`, or set {ENVIRONMENT} to a cluster.json",
            ) from None
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
        return Path(json.loads(named.read_text())["cluster"])
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
        raise NotFound("context.unreadable", f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidArgument(
            "context.malformed",
            f"{path} is not a cluster.json: {type(error).__name__} {error}",
            hint="write it anew with `dwctl dev up`",
        ) from error


def remember(name: str, cluster: Path) -> None:
    """Store `cluster` as context `name` and make it the current one."""
    home = config_home()
    try:
        (home / "contexts").mkdir(parents=True, exist_ok=True)
        (home / "contexts" / f"{name}.json").write_text(json.dumps({"cluster": str(cluster.resolve())}) + "\n")
        (home / "current").write_text(name + "\n")
    except OSError as error:
        raise DwError("context.unwritable", f"cannot write under {home}: {error.strerror}") from error


def forget(cluster: Path) -> None:
    """Remove the contexts that point at `cluster`."""
    home = config_home()
    for file in sorted((home / "contexts").glob("*.json")) if (home / "contexts").is_dir() else ():
        if Path(json.loads(file.read_text())["cluster"]) == cluster.resolve():
            file.unlink()
            current = home / "current"
            if current.is_file() and current.read_text().strip() == file.stem:
                current.unlink()


def contexts() -> dict[str, tuple[str, bool]]:
    """Name to (cluster.json, whether it is the current one)."""
    home = config_home()
    folder = home / "contexts"
    if not folder.is_dir():
        return {}
    current = (home / "current").read_text().strip() if (home / "current").is_file() else ""
    return {f.stem: (json.loads(f.read_text())["cluster"], f.stem == current) for f in sorted(folder.glob("*.json"))}
