"""Which leaderships to hand over so that every node leads about as many groups as the others.

Invariants:
* a move goes to a voter that is as fit to lead as the present leader, of the same priority and never a witness: the
  leader itself says which those are;
* nothing moves unless it brings two nodes nearer to each other that are at least GAP apart, so what was evened out
  stays where it is, and a leadership more or less moves nothing;
* a node that should not lead (drained, slow disk, wrong clock) gives away what others can take, and is given nothing.

The greatest surplus goes first, along a shortest chain of groups where no single one spans it: n1 can relieve n3 only
through n2 when no group has both among its voters. Source: this is balancing of unit jobs by augmenting paths (Harvey,
Ladner, Lovász and Tamir 2006, "Semi-matchings for bipartite graphs and load balancing").
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from dwd.base.ids import GroupId, NodeId

GAP = 2
"""Between two nodes, in groups led, from which on one hands over to the other: at 1 it would go to and fro."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedGroup:
    """A group and the nodes that could lead it just as well."""

    group: GroupId
    fit: tuple[NodeId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Leading:
    """What a node says of itself. `reluctant`: its disk is slow or its clock wrong, it gives away what it leads."""

    groups: tuple[LedGroup, ...]
    reluctant: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    group: GroupId
    source: NodeId
    target: NodeId


def plan_moves(
    led: Mapping[NodeId, Leading],
    *,
    takers: Collection[NodeId],
    resting: Collection[GroupId] = (),
    moves_max: int,
) -> tuple[Move, ...]:
    """At most `moves_max` moves, each group once. `takers`: nodes that may lead; `resting`: groups left alone now."""
    balance = _Balance(led, takers=takers, resting=resting)
    moves: list[Move] = []
    while len(moves) < moves_max:
        chain = balance.next_chain()
        if not chain:
            break
        for move in chain:
            balance.take(move)
        moves += chain
    return tuple(moves)


class _Balance:
    """How many groups each node leads while moves are planned."""

    def __init__(
        self, led: Mapping[NodeId, Leading], *, takers: Collection[NodeId], resting: Collection[GroupId]
    ) -> None:
        self._takers = {node for node in takers if node in led and not led[node].reluctant}
        self._count = {node: len(leading.groups) for node, leading in led.items()}
        self._movable = {
            node: {g.group: g.fit for g in leading.groups if g.group not in resting} for node, leading in led.items()
        }

    def take(self, move: Move) -> None:
        del self._movable[move.source][move.group]
        self._count[move.source] -= 1
        self._count[move.target] += 1

    def next_chain(self) -> list[Move]:
        """From a node that leads too much to one that leads too little; empty when there is none."""
        for source in sorted(self._count, key=lambda n: (n in self._takers, -self._count[n], n)):
            chain = self._chain_from(source)
            if chain:
                return chain
        return []

    def _chain_from(self, source: NodeId) -> list[Move]:
        """The shortest to the node with the least that is far enough below; whoever may not lead is above everybody."""
        found: dict[NodeId, Move | None] = {source: None}
        queue = deque([source])
        ends: list[NodeId] = []
        while queue:
            at = queue.popleft()
            for group, fit in sorted(self._movable[at].items()):
                for target in fit:
                    if target in found or target not in self._takers:
                        continue
                    found[target] = Move(group=group, source=at, target=target)
                    queue.append(target)
                    if source not in self._takers or self._count[source] - self._count[target] >= GAP:
                        ends.append(target)
        if not ends:
            return []
        return _path(found, min(ends, key=lambda n: (self._count[n], len(_path(found, n)), n)))


def _path(found: Mapping[NodeId, Move | None], end: NodeId) -> list[Move]:
    moves: list[Move] = []
    move = found[end]
    while move is not None:
        moves.append(move)
        move = found[move.source]
    return moves[::-1]
