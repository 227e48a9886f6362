"""What a node's going does to the groups: who takes its votes, and how many more losses each survives."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from dwd.base.ids import GroupId, NodeId
from dwd.lifecycle.core.facts import Facts, GroupFacts
from dwd.meta.core.control.queries import Topology
from dwd.meta.core.control.rows import NodeStanding
from dwd.meta.core.membership import LOSSES_DEFAULT, pin_of, wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupChange:
    """A group in which the node is a member. `survived_*`: voters that may be lost from those that work; negative
    where they are no quorum.
    """

    group: GroupId
    name: str
    votes: bool
    leads: bool
    takes_over: tuple[NodeId, ...]
    """Voters that are none now."""
    voters_before: int
    voters_after: int
    survived_before: int
    survived_after: int


def group_changes(facts: Facts, node: NodeId) -> tuple[GroupChange, ...]:
    """Of all groups of which `node` is a member, as if it were drained."""
    present = _with_standing(facts.topology, node, NodeStanding.ACTIVE)
    drained = _with_standing(facts.topology, node, NodeStanding.DRAINING)
    return tuple(
        _change(facts, present, drained, group, node)
        for group in facts.groups
        if group.configuration.on_node(node) is not None
    )


def _with_standing(topology: Topology, node: NodeId, standing: NodeStanding) -> Topology:
    rows = tuple(replace(row, standing=standing) if row.node == node else row for row in topology.nodes)
    return replace(topology, nodes=rows)


def _change(facts: Facts, present: Topology, drained: Topology, group: GroupFacts, node: NodeId) -> GroupChange:
    """Before: as it is, or as it would become with the node, whichever survives more: votes may be moving already."""
    before = group.voters
    ideal = frozenset(wanted(present, group.group, group.configuration).voting)
    after = frozenset(wanted(drained, group.group, group.configuration).voting)
    return GroupChange(
        group=group.group,
        name=group.name,
        votes=node in before,
        leads=group.leader == node,
        takes_over=tuple(sorted(after - before)),
        voters_before=len(before),
        voters_after=len(after),
        survived_before=max(_survived(before, group.working & before), _survived(ideal, facts.up(ideal))),
        survived_after=_survived(after, facts.up(after)),
    )


def _survived(voters: Collection[NodeId], working: Collection[NodeId]) -> int:
    return len(working) - (len(voters) // 2 + 1)


def refusals(facts: Facts, changes: Collection[GroupChange]) -> tuple[str, ...]:
    """What is less than the cluster promises (LOSSES_DEFAULT) and less than now; one sentence for groups alike."""
    told: dict[str, list[str]] = {}
    for change in changes:
        if change.survived_after >= min(change.survived_before, LOSSES_DEFAULT):
            continue
        if change.survived_after < 0:
            text = "would be left without a quorum of working voters"
        else:
            text = (
                f"would survive the loss of {voters(change.survived_after)} instead of {change.survived_before}"
                f" ({voters(change.voters_after)} instead of {change.voters_before})"
            )
        told.setdefault(text, []).append(change.name)
    leaderless = [group.name for group in facts.groups if not group.leader]
    found = [f"{_names(names)} {text}" for text, names in told.items()]
    return (*found, *([f"without a leader now: {_names(leaderless)}"] if leaderless else []))


def pinned(facts: Facts, node: NodeId) -> tuple[str, ...]:
    """Groups whose members an operator named, this node among them: nobody moves those."""
    pins = ((group.name, pin_of(facts.topology, group.group)) for group in facts.groups)
    return tuple(name for name, pin in pins if pin is not None and node in pin.roles)


def voters(count: int) -> str:
    return "no voter" if not count else f"{count} voter" if count == 1 else f"{count} voters"


NAMED_MAX = 4


def _names(names: list[str]) -> str:
    more = len(names) - NAMED_MAX
    return ", ".join(names[:NAMED_MAX]) + (f" and {more} more groups" if more > 0 else "")
