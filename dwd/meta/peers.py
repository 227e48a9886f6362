"""Other nodes as proposals and questions see them: a port with a gRPC twin in `dwd.meta.rpc`."""

from __future__ import annotations

from typing import Protocol, TypeVar

from dwd.base.ids import GroupId, NodeId
from dwd.meta.core.outcome import Outcome
from dwd.meta.core.query import Query

A = TypeVar("A")


class Peers(Protocol):
    async def propose(self, node: NodeId, group: GroupId, payload: bytes, *, deadline: float) -> Outcome:
        """As `LocalGroups.propose` on that node; OutcomeUnknown when the connection breaks after it was sent."""
        ...

    async def answer(self, node: NodeId, group: GroupId, query: Query[A], *, deadline: float) -> A:
        """As `LocalGroups.answer` on that node; Unavailable when the connection breaks."""
        ...

    def leader_changed(self, group: GroupId, leader: NodeId) -> None:
        """Give up what waits for another node's answer about the group: OutcomeUnknown, Unavailable."""
        ...
