"""What becomes of a node that was removed from its cluster: it notices, says so, and does not run again.

Others refuse its certificate from the moment they know of the removal, so it may never hear of it through its own
copy of control. A node that hears of nobody asks the ones it knows; who knows better answers `node.removed`. Then it
writes that down and ends, and ends again at every start:

    identity_dir/removed.json   {"format": 1, "cluster_id": ..., "node_id": ..., "unix_ms": ..., "told_by": node id}

Its directories are left alone: what lies there is for people to look at. Invariant: one that was not told so by a
node of its cluster (over mutual TLS), or by its own copy of control, never takes itself for removed.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping

from dwd.base.clock import Clock
from dwd.base.errors import DwError, PermissionDenied, SafetyRefused
from dwd.base.ids import NodeId, hex_id
from dwd.meta.core.control.queries import Topology
from dwd.node.paths import Paths
from dwd.runtime.files import Files
from dwd.runtime.worker import Progress
from dwd.security.identity import Identity

FORMAT = 1
REMOVED = "node.removed"
SILENCE_SECONDS = 3.0
"""After which a node that hears nobody asks why."""
ASK_SECONDS = 2.0
ASKED_MAX = 3
"""Of the nodes it knows, a round; the next round asks the next ones."""


class RemovalWorker:
    """Worker "node.removal". `ask` is any small call of another node; `on_removed` ends this one."""

    name = "node.removal"
    idle_seconds = 2.0

    def __init__(
        self,
        *,
        node: NodeId,
        topology: Callable[[], Topology | None],
        addresses: Callable[[], Mapping[NodeId, str]],
        last_contact: Callable[[NodeId], float],
        ask: Callable[[NodeId], Awaitable[object]],
        on_removed: Callable[[NodeId], Awaitable[None]],
    ) -> None:
        self._node = node
        self._topology = topology
        self._addresses = addresses
        self._last_contact = last_contact
        self._ask = ask
        self._on_removed = on_removed
        self._next = 0

    async def work(self) -> Progress:
        topology = self._topology()
        if topology is not None and any(row.node == self._node for row in topology.removed):
            await self._on_removed(self._node)
            return Progress.IDLE
        others = sorted(node for node in self._addresses() if node != self._node)
        if not others or min(self._last_contact(node) for node in others) <= SILENCE_SECONDS:
            return Progress.IDLE
        for _ in range(min(ASKED_MAX, len(others))):
            self._next = (self._next + 1) % len(others)
            node = others[self._next]
            try:
                await self._ask(node)
            except PermissionDenied as refusal:
                if refusal.code == REMOVED:
                    await self._on_removed(node)
                    return Progress.IDLE
            except DwError:
                continue
        return Progress.IDLE


def refuse_removed(node: NodeId) -> PermissionDenied:
    """What a removed node is answered, whatever it asks."""
    return PermissionDenied(
        REMOVED, f"node {hex_id(node)} was removed from the cluster", hint="it may come back as a new node: `dwd join`"
    )


def write_removed(files: Files, paths: Paths, identity: Identity, told_by: NodeId, clock: Clock) -> SafetyRefused:
    """The error to end with; durable when this returns."""
    content = {
        "format": FORMAT, "cluster_id": identity.cluster_id, "node_id": hex_id(identity.node_id),
        "unix_ms": clock.unix_ms(), "told_by": hex_id(told_by),
    }  # fmt: skip
    files.write_durably(paths.removed, json.dumps(content).encode() + b"\n")
    return removed(identity.node_id, paths)


def require_not_removed(files: Files, paths: Paths, identity: Identity) -> None:
    """Raises SafetyRefused. A record of another identity, or one that cannot be read, says nothing of this one."""
    if not files.exists(paths.removed):
        return
    try:
        found = json.loads(files.read(paths.removed))
        is_own = (found["cluster_id"], found["node_id"]) == (identity.cluster_id, hex_id(identity.node_id))
    except (ValueError, KeyError, TypeError):
        return
    if is_own:
        raise removed(identity.node_id, paths)


def removed(node: NodeId, paths: Paths) -> SafetyRefused:
    return SafetyRefused(
        REMOVED,
        f"this node ({hex_id(node)}) was removed from its cluster: nobody there speaks to it any more",
        hint=f"its data was moved or rebuilt elsewhere. To bring the machine back as a new node: empty {paths.data}, "
        f"{paths.identity} and its device directories, and `dwd join` with a new token",
    )
