"""Who leads, for routers, reconcilers and logs."""

from __future__ import annotations

from collections.abc import Callable

from dwd.base.ids import NodeId, Term

LeadershipCallback = Callable[[NodeId, Term, bool], None]
"""The leader's node (0: none known), the term, whether it is this node."""

NO_NODE = NodeId(0)


class Leadership:
    """The leader of one group as this node knows it. Outlives the replica: a watcher sees 0 while there is none."""

    def __init__(self, node: NodeId) -> None:
        self._self = node
        self._callbacks: list[LeadershipCallback] = []
        self.node = NO_NODE
        self.term = Term(0)

    def watch(self, callback: LeadershipCallback) -> Callable[[], None]:
        self._callbacks.append(callback)
        callback(self.node, self.term, self.node == self._self)

        def unwatch() -> None:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

        return unwatch

    def changed(self, node: NodeId, term: Term) -> bool:
        """Publish; whether it was news."""
        if (node, term) == (self.node, self.term):
            return False
        self.node, self.term = node, term
        for callback in tuple(self._callbacks):
            callback(node, term, node == self._self)
        return True
