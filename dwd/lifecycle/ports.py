"""What jobs of nodes ask of the other nodes. Everything else they read in this node's copy of control."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from dwd.base.ids import DeviceId
from dwd.lifecycle.core.facts import GroupFacts, Space


class Fleet(Protocol):
    """Raises what calls raise; nodes that do not answer are left out."""

    async def groups(self) -> tuple[GroupFacts, ...]:
        """Every group there should be, as its leader sees it; one that nobody tells of has neither leader nor
        members.
        """
        ...

    async def spaces(self) -> Mapping[DeviceId, Space]: ...
