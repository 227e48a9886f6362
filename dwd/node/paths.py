"""Where a node keeps things below its two directories, and the claim that keeps a second daemon out.

identity_dir/  identity.json, certificates, keys (dwd.security.identity)
               keyring.sealed      the cluster keys, sealed to this node
               bootstrap.sealed    what a first node must still propose; gone once it has
               joining.json        a join under way: kept so that repeating it is the same node
               devices.json        which device ids this node's directories have held
               peers.json          addresses of the other nodes, for the time before control is there: a node whose
                                   data is gone must still be able to say so
               removed.json        the cluster removed this node (dwd.node.removal)
               starts.json         which copy of each directory is the newest (dwd.node.starts)
data_dir/      node.json           whose data this is, written once
               lock                flocked by the running daemon
               started             the token of the last start
               recovery.json       which recovery epoch the data is of (dwd.raft.quorum_loss.epochs)
               log/ groups/ snapshots/
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path

from dwd.base.errors import Conflict, Corrupt, StorageFailed, VersionRefused
from dwd.base.ids import ClusterId, NodeId, hex_id
from dwd.config.settings import Settings
from dwd.runtime.files import Files

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Paths:
    """All of them, derived from the settings."""

    identity: Path
    data: Path

    @property
    def keyring(self) -> Path:
        return self.identity / "keyring.sealed"

    @property
    def bootstrap(self) -> Path:
        return self.identity / "bootstrap.sealed"

    @property
    def joining(self) -> Path:
        return self.identity / "joining.json"

    @property
    def known_devices(self) -> Path:
        return self.identity / "devices.json"

    @property
    def starts(self) -> Path:
        return self.identity / "starts.json"

    @property
    def removed(self) -> Path:
        return self.identity / "removed.json"

    @property
    def owner(self) -> Path:
        return self.data / "node.json"

    @property
    def recovery(self) -> Path:
        return self.data / "recovery.json"

    @property
    def lock(self) -> Path:
        return self.data / "lock"

    @property
    def peers(self) -> Path:
        return self.identity / "peers.json"

    @property
    def heal_ledger(self) -> Path:
        return self.data / "heal.sqlite"

    @property
    def log(self) -> Path:
        return self.data / "log"

    @property
    def groups(self) -> Path:
        return self.data / "groups"

    @property
    def snapshots(self) -> Path:
        return self.data / "snapshots"


def paths_of(settings: Settings) -> Paths:
    return Paths(identity=settings.node.identity_dir, data=settings.node.data_dir)


class DataClaim:
    """Holds the data directory for one daemon until `release`. `fresh`: it was empty and is now marked this node's."""

    def __init__(self, descriptor: int, *, fresh: bool) -> None:
        self._descriptor = descriptor
        self.fresh = fresh

    def release(self) -> None:
        os.close(self._descriptor)


def claim_data(files: Files, paths: Paths, *, cluster: ClusterId, node: NodeId) -> DataClaim:
    """Lock the data directory and check whose it is, marking an empty one as this node's.

    Raises Conflict (a second daemon), VersionRefused (another cluster's, another node's or a later format's data),
    StorageFailed (not there, not writable, or not empty and not ours).
    """
    files.make_directory(paths.data)
    try:
        descriptor = os.open(paths.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageFailed("node.data_unusable", f"cannot open {paths.lock}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise Conflict(
            "node.already_running",
            f"another dwd uses {paths.data}",
            hint="one daemon a data directory: stop the other, or give this one its own node.data_dir",
        ) from error
    try:
        fresh = not files.exists(paths.owner)
        _check_owner(files, paths, cluster=cluster, node=node)
    except BaseException:
        os.close(descriptor)
        raise
    return DataClaim(descriptor, fresh=fresh)


def _check_owner(files: Files, paths: Paths, *, cluster: ClusterId, node: NodeId) -> None:
    if not files.exists(paths.owner):
        strangers = sorted(set(files.list(paths.data)) - {paths.lock.name, "devices"})
        if strangers:
            raise StorageFailed(
                "node.data_unknown",
                f"{paths.data} holds {', '.join(strangers[:5])} but no {paths.owner.name}",
                hint="point node.data_dir at an empty directory, or at this node's data",
            )
        content = {"format": FORMAT, "cluster_id": cluster, "node_id": hex_id(node)}
        files.write_durably(paths.owner, json.dumps(content).encode() + b"\n")
        return
    try:
        found = json.loads(files.read(paths.owner))
        form, of_cluster, of_node = found["format"], found["cluster_id"], found["node_id"]
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt("node.data_marker", f"{paths.owner} cannot be read") from error
    if form != FORMAT:
        raise VersionRefused("node.data_format", f"{paths.data} has format {form}, this dwd reads {FORMAT}")
    if of_cluster != cluster or of_node != hex_id(node):
        raise VersionRefused(
            "node.wrong_data",
            f"{paths.data} belongs to node {of_node} of cluster {of_cluster}, "
            f"the identity here is node {hex_id(node)} of cluster {cluster}",
            hint="point node.data_dir and node.identity_dir at the same node",
        )
