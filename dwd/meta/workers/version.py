"""Raises the active version of the groups led here, one step at a time, once every node of the cluster knows the next.

Nodes say in their row of control what they know (`node.announce`), down ones too: a node that is to come back no more
has to be removed first. An operator holds back with a setting of control, and tries the new binaries that long:

    version_max = "1"      no group goes above; empty: as far as all nodes know

No step goes back. Everything it looks at is here in memory, so a look wakes no group that rests.
"""

from __future__ import annotations

import structlog

from dwd.base.clock import Clock
from dwd.base.errors import Conflict, DwError, InvalidArgument
from dwd.base.ids import GroupId
from dwd.meta.client import MetaClient
from dwd.meta.core.control.queries import Topology
from dwd.meta.core.versions import NEWEST
from dwd.meta.local import Consensus
from dwd.runtime.worker import Progress

SETTING = "version_max"
PROPOSE_SECONDS = 10.0

_log = structlog.get_logger("dwd.meta")


class VersionWorker:
    """`newest`: what this node's binary knows."""

    name = "meta.version"
    idle_seconds = 5.0

    def __init__(self, *, host: Consensus, client: MetaClient, clock: Clock, newest: int = NEWEST) -> None:
        self._host = host
        self._client = client
        self._clock = clock
        self._newest = newest

    async def work(self) -> Progress:
        """One group's trouble keeps no other waiting. Raises InvalidArgument when the setting is no number."""
        allowed = min(self._newest, allowed_version(self._client.view.topology()))
        behind = [g for g in self._host.groups() if self._client.leads(g) and self._client.version(g) < allowed]
        trouble = list[DwError]()
        raised = False
        for group in behind:
            try:
                raised = await self._raise(group) or raised
            except DwError as error:
                trouble.append(error)
        if trouble:
            raise trouble[0]
        return Progress.BUSY if raised else Progress.IDLE

    async def _raise(self, group: GroupId) -> bool:
        version = self._client.version(group) + 1
        try:
            await self._client.set_version(group, version, deadline=self._clock.monotonic() + PROPOSE_SECONDS)
        except Conflict:  # somebody else led in between, and did it
            return False
        _log.info("active version raised", group=group, version=version)
        return True


def allowed_version(topology: Topology) -> int:
    """The highest version that groups may have: 0 while no node is known. Raises InvalidArgument."""
    known = min((row.version_newest for row in topology.nodes), default=0)
    limit = topology.setting(SETTING)
    if not limit:
        return known
    if not (limit.isascii() and limit.isdigit()):
        raise InvalidArgument("meta.version_max", f"the setting {SETTING} is no number: {limit!r}")
    return min(known, int(limit))
