"""The leaderships of this node: which it has and who could take them over as well, for whoever spreads them."""

from __future__ import annotations

from typing import Protocol

from dwd.base.errors import NotFound
from dwd.base.ids import GroupId, NodeId
from dwd.meta.core.leaderships import Leading, LedGroup
from dwd.raft.clock_guard import ClockStatus
from dwd.raft.core.types import MemberRole
from dwd.raft.disk_pace import DiskStatus
from dwd.raft.status import GroupStatus

CONTACT_SECONDS = 3.0


class LeadingHost(Protocol):
    """What is asked of `dwd.raft.host.Host`."""

    def groups(self) -> tuple[GroupId, ...]: ...

    def leads(self, group: GroupId) -> bool: ...

    def status(self, group: GroupId) -> GroupStatus: ...

    def clock(self) -> ClockStatus: ...

    def disk(self) -> DiskStatus: ...

    async def transfer(self, group: GroupId, to: NodeId | None, *, deadline: float) -> NodeId: ...


class Leaderships(Protocol):
    """Asked of any node, this one too. Raise what calls raise."""

    async def tell(self, node: NodeId, *, seconds: float) -> Leading: ...

    async def hand_over(self, node: NodeId, group: GroupId, to: NodeId, *, seconds: float) -> None:
        """Of a group that `node` leads; returns once `to` leads it."""
        ...


def leading_here(host: LeadingHost) -> Leading:
    """From memory; wakes no group."""
    groups = []
    for group in host.groups():
        if not host.leads(group):
            continue
        try:
            groups.append(LedGroup(group=group, fit=_fit(host.status(group))))
        except NotFound:  # dropped meanwhile
            continue
    return Leading(groups=tuple(groups), reluctant=host.clock().off or host.disk().slow)


def _fit(status: GroupStatus) -> tuple[NodeId, ...]:
    """Voters with data, heard of lately, whose log follows, of the same priority: others stay what they are."""
    own = status.configuration.find(status.replica)
    if own is None or status.configuration.is_joint or status.quarantined is not None:
        return ()
    return tuple(
        found.member.node
        for found in status.members
        if found.member.role is MemberRole.VOTER
        and found.member.replica != status.replica
        and found.member.priority == own.priority
        and found.state == "replicate"
        and found.last_contact_seconds <= CONTACT_SECONDS
    )
