"""What a node knows and does about the state of its replicas: testifies, is told verdicts, remembers what scans found.

Every call is for one replica of a group: what is said of one that has been replaced since is not held against its
successor.
"""

from __future__ import annotations

from typing import Protocol

import structlog

from dwd.base.errors import DwError, NotFound
from dwd.base.ids import GroupId, LogIndex, NodeId, ReplicaId, hex_id
from dwd.meta.core.agreement import Evidence
from dwd.observability.metrics import counter
from dwd.raft.host import Host

ROT = counter("dwd.meta.rot", "Scans that found other rows than were written", "{scan}")
REASON_CHARACTERS_MAX = 500

_log = structlog.get_logger("dwd.meta")


class Audits(Protocol):
    """The audit of another node. Every call ends within `seconds` and raises DwError."""

    async def testify(
        self, node: NodeId, group: GroupId, replica: ReplicaId, index: LogIndex, *, seconds: float
    ) -> Evidence: ...

    async def quarantine(
        self, node: NodeId, group: GroupId, replica: ReplicaId, reason: str, *, seconds: float
    ) -> None: ...

    async def suspect(
        self, node: NodeId, group: GroupId, replica: ReplicaId, reason: str, *, seconds: float
    ) -> None: ...


class Audit:
    """One a node, on its event loop."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._rot: dict[GroupId, tuple[ReplicaId, str]] = {}
        self._suspicions: set[GroupId] = set()

    async def testify(self, group: GroupId, replica: ReplicaId, index: LogIndex) -> Evidence:
        """Raises NotFound when that replica is not here, Unavailable."""
        self._require(group, replica)
        quarantined = self._host.status(group).quarantined or ""
        recorded = await self._host.examine(group, lambda machine: machine.state_hash(index))
        digest = b"" if recorded is None else recorded.definition.to_bytes(4) + recorded.digest
        return Evidence(digest=digest, rot=self.rot_of(group) or "", quarantined=quarantined)

    async def quarantine(self, group: GroupId, replica: ReplicaId, reason: str) -> None:
        """What the scan found is dealt with: the state it was found in goes. Raises NotFound, and as `Host`."""
        self._require(group, replica)
        await self._host.quarantine(group, reason[:REASON_CHARACTERS_MAX])
        self._rot.pop(group, None)

    def suspect(self, group: GroupId, replica: ReplicaId, reason: str) -> None:
        """Somebody doubts a replica of a group that this node may lead."""
        if group not in self._suspicions and group in self._host.groups():
            _log.warning("a replica is suspected", group=group, suspect=hex_id(replica), reason=reason[:200])
            self._suspicions.add(group)

    def take_suspicion(self, group: GroupId) -> bool:
        """Whether anybody was suspected since the last call."""
        suspected = group in self._suspicions
        self._suspicions.discard(group)
        return suspected

    def scanned(self, group: GroupId, found: str | None) -> None:
        """A scan of the local replica is complete."""
        try:
            replica = self._host.status(group).replica
        except NotFound:
            return
        if found is None:
            self._rot.pop(group, None)
            return
        ROT.add(1, group=group)
        if self.rot_of(group) is None:
            _log.error("a scan found other rows than were written", group=group, replica=replica, found=found)
        self._rot[group] = (replica, found)

    def rot_of(self, group: GroupId) -> str | None:
        """What the last scan found in the replica that is here now."""
        known = self._rot.get(group)
        if known is None:
            return None
        try:
            here = self._host.status(group).replica
        except DwError:
            here = ReplicaId(0)
        if here != known[0]:
            del self._rot[group]
            return None
        return known[1]

    def _require(self, group: GroupId, replica: ReplicaId) -> None:
        if self._host.status(group).replica != replica:
            raise NotFound("meta.no_such_replica", "another replica of the group lives here now", group=group)
