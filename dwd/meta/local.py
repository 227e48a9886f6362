"""Groups on this node: their proposals and answers, for this node's client and for those who forward to it."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from dwd.base.errors import InvariantViolation, NotFound, Unavailable
from dwd.base.ids import GroupId, LogIndex, NodeId
from dwd.meta.core.outcome import Outcome
from dwd.meta.core.query import Query
from dwd.meta.core.receipt import Receipt
from dwd.meta.store.databases import Databases
from dwd.raft.leadership import LeadershipCallback
from dwd.raft.ports import Applied
from dwd.raft.status import GroupStatus

A = TypeVar("A")


class Consensus(Protocol):
    """What metadata asks of `dwd.raft.host.Host`."""

    async def propose(self, group: GroupId, payload: bytes, *, deadline: float) -> Applied: ...

    async def read_index(self, group: GroupId, *, deadline: float) -> LogIndex: ...

    def status(self, group: GroupId) -> GroupStatus: ...

    def serves(self, group: GroupId) -> bool: ...

    def leads(self, group: GroupId) -> bool: ...

    def applied(self, group: GroupId) -> LogIndex: ...

    def leader_node(self, group: GroupId) -> NodeId: ...

    def groups(self) -> tuple[GroupId, ...]: ...

    def last_contact(self, node: Any) -> float: ...

    def watch(self, group: GroupId, callback: LeadershipCallback) -> Any: ...


class LocalGroups:
    """Everything fails with the errors of `Host`, a group that is not here with Unavailable meta.not_here."""

    def __init__(self, host: Consensus, databases: Databases) -> None:
        self._host = host
        self._databases = databases

    def holds(self, group: GroupId) -> bool:
        """Whether a working replica of the group is here."""
        return self._host.serves(group)

    async def propose(self, group: GroupId, payload: bytes, *, deadline: float) -> Outcome:
        try:
            applied = await self._host.propose(group, payload, deadline=deadline)
        except NotFound as error:
            raise Unavailable("meta.not_here", f"group {group} is not on this node", group=group) from error
        if not isinstance(applied.result, Receipt | Exception):
            raise InvariantViolation("a command must come to a receipt or an error", group=group)
        outcome: Any = applied.result
        found: Outcome = outcome
        return found

    async def answer(self, group: GroupId, query: Query[A], *, deadline: float) -> A:
        """Linearizable."""
        try:
            index = await self._host.read_index(group, deadline=deadline)
        except NotFound as error:
            raise Unavailable("meta.not_here", f"group {group} is not on this node", group=group) from error
        return await self._databases.readers(group).answer(query, index_min=index)
