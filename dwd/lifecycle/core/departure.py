"""What would happen if a node left: where its votes and data go, what is survived meanwhile and after, what there is
room for, and what speaks against it.

A change is refused when it takes away what is promised: losses of nodes and devices that a profile survives now and
promises to survive, the last zone but one, losses of voters, or room. `--force` overrides all of it but what could
never come to an end: members that an operator pinned to the node.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from dwd.base.ids import DeviceId, LayoutEpoch, NodeId, hex_id
from dwd.base.units import format_bytes
from dwd.blocks.core import risk
from dwd.blocks.core.layout import Layout, LayoutDevice
from dwd.blocks.core.movement import Movement, Survival
from dwd.blocks.core.placement import plan_layout
from dwd.blocks.topology import DeviceHealth, layout_devices
from dwd.lifecycle.core import quorum
from dwd.lifecycle.core.facts import Facts
from dwd.lifecycle.core.quorum import GroupChange
from dwd.meta.core.control.rows import NodeRow, NodeStanding

LISTED_MAX = 12
"""Groups and devices named one by one; the rest is counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """What a device that stays is to take. `free`: what it may take now, None when nobody tells."""

    device: DeviceId
    node: NodeId
    takes: int
    free: int | None

    @property
    def fits(self) -> bool:
        return self.free is None or self.takes <= self.free


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """`lines`: what is agreed to, stable from one look to the next; `estimates` change with clients' writes.
    `refusals` and `shortages` (of room, in numbers that change) may be overridden, `blockers` may not.
    """

    lines: tuple[str, ...]
    estimates: tuple[str, ...]
    warnings: tuple[str, ...]
    refusals: tuple[str, ...]
    shortages: tuple[str, ...]
    blockers: tuple[str, ...]
    groups: tuple[GroupChange, ...]
    arrivals: tuple[Arrival, ...]
    survivals: tuple[Survival, ...]
    layout: Layout | None
    """What it would lead to; None when there is nothing to place."""
    bytes: int


def plan_departure(facts: Facts, node: NodeRow, *, dead: bool = False, successor: NodeRow | None = None) -> Departure:
    """`dead`: what it holds is rebuilt from others, not moved. `successor` takes its place, as far as it can."""
    changes = quorum.group_changes(facts, node.node)
    after = layout_without(facts, node.node, successor)
    movement = Movement(facts.layout, after, facts.loads) if facts.layout is not None and after is not None else None
    survivals = movement.survivals if movement is not None else ()
    arrivals = _arrivals(facts, movement) if movement is not None else ()
    before = _Before(facts, node.node, dead=dead)
    refusals = [*quorum.refusals(facts, changes), *before.lowered(survivals)]
    if facts.held_blocks and after is None:
        refusals.append("no other device takes data")
    return Departure(
        lines=tuple(_lines(facts, node, changes, before, survivals, dead=dead, successor=successor)),
        estimates=tuple(_estimates(facts, arrivals, dead=dead)),
        warnings=tuple(_warnings(facts, node, before, survivals, successor)),
        refusals=tuple(refusals),
        shortages=tuple(_without_room(facts, arrivals)),
        blockers=tuple(_blockers(facts, node)),
        groups=changes,
        arrivals=arrivals,
        survivals=survivals,
        layout=after,
        bytes=facts.held_bytes,
    )


def layout_without(facts: Facts, node: NodeId, successor: NodeRow | None = None) -> Layout | None:
    """The layout of the devices that stay. Those of a successor that stand in no layout yet take the places of the
    ones that go, so that nothing else moves. None: no device stays.
    """
    staying = [
        device for device in layout_devices([view for view in facts.devices if view.node != node]) if device.weight > 0
    ]
    if not staying:
        return None
    previous = facts.layout
    epoch = LayoutEpoch(1 if previous is None else previous.epoch + 1)
    if previous is None:
        return plan_layout(staying, epoch=epoch)
    if successor is not None:
        previous = _renamed(previous, node, [device for device in staying if device.node == successor.node])
    widths = tuple(load.profile.fragments for load in facts.loads)
    return plan_layout(staying, epoch=epoch, previous=previous, partitions=previous.partitions, held_for=widths)


def _renamed(layout: Layout, gone: NodeId, arriving: Iterable[LayoutDevice]) -> Layout:
    """The old layout with the successor's devices in the places of those that go, the heaviest for the heaviest."""
    present = {device.device for device in layout.devices}
    fresh = sorted((d for d in arriving if d.device not in present), key=lambda d: (-d.weight, d.device))
    going = sorted((d for d in layout.devices if d.node == gone), key=lambda d: (-d.weight, d.device))
    instead = {old.device: new for old, new in zip(going, fresh, strict=False)}
    return replace(layout, devices=tuple(instead.get(device.device, device) for device in layout.devices))


# -- what speaks against it ----------------------------------------------------------------------------------------


class _Before:
    """What is survived now, devices that are down taken off: losing what is lost already costs nothing more."""

    def __init__(self, facts: Facts, node: NodeId, *, dead: bool) -> None:
        placed = {device.device for device in facts.layout.devices} if facts.layout is not None else set()
        away = [
            view
            for view in facts.devices
            if view.device in placed and (view.health is not DeviceHealth.UP or (dead and view.node == node))
        ]
        down = {view.node for view in away}
        self.others_down = tuple(sorted(down - {node}))
        self._dead = dead
        self.lost_nodes, self._lost_devices = len(down), len(away)

    def lowered(self, survivals: Iterable[Survival]) -> Iterator[str]:
        for found in survivals:
            before = found.before
            if before is None:
                continue
            name = found.profile.name
            for level, now, then in (
                ("nodes", before.nodes - self.lost_nodes, found.after.nodes),
                ("devices", before.devices - self._lost_devices, found.after.devices),
            ):
                if then < min(now, found.profile.parity):
                    yield (
                        f"{name}: losses of {level} survived would fall from {now} to {then}"
                        f" (promised: {found.profile.parity})"
                    )
                    break
            if self._dead and self.lost_nodes > before.nodes:
                yield f"{name}: there may be blocks that nobody can read without what is to be given up"
            if before.zones > 0 and found.after.zones == 0:
                yield f"{name}: the loss of a zone is survived now, and would not be any more"


def _without_room(facts: Facts, arrivals: Iterable[Arrival]) -> Iterator[str]:
    for arrival in arrivals:
        if not arrival.fits and arrival.free is not None:
            yield (
                f"device {hex_id(arrival.device)} of {facts.name_of(arrival.node)} has room for"
                f" {format_bytes(arrival.free)} and would take {format_bytes(arrival.takes)}"
            )


def _blockers(facts: Facts, node: NodeRow) -> Iterator[str]:
    names = quorum.pinned(facts, node.node)
    if names:
        yield (
            f"operators pinned {node.name} as a member of {', '.join(names[:LISTED_MAX])}:"
            " `dwctl raft member auto GROUP` leaves its members to the cluster"
        )
    others = [row for row in facts.topology.nodes if row.node != node.node and row.standing is NodeStanding.ACTIVE]
    if not others:
        yield f"{node.name} is the last active node"


def _warnings(
    facts: Facts, node: NodeRow, before: _Before, survivals: Iterable[Survival], successor: NodeRow | None
) -> Iterator[str]:
    for other in before.others_down:
        yield f"devices of {facts.name_of(other)} are down: what lies there does not count as survived"
    for found in survivals:
        if found.during is not None and found.at_worst is not None:
            yield from risk.stuck(found.profile.name, found.during, found.at_worst)
    if successor is not None and successor.domain != node.domain:
        yield (
            f"{successor.name} is in {_place(successor)}, {node.name} in {_place(node)}:"
            " data spreads over other domains than before"
        )
    unknown = sum(
        1 for view in facts.devices if view.placed and view.node != node.node and view.device not in facts.spaces
    )
    if unknown:
        yield f"{unknown} devices did not say how much room they have"


def _place(row: NodeRow) -> str:
    zone = f"zone {row.domain.zone}" if row.domain.zone else "no zone"
    return f"{zone}, rack {row.domain.rack}" if row.domain.rack else zone


# -- what people read ----------------------------------------------------------------------------------------------


def _arrivals(facts: Facts, movement: Movement) -> tuple[Arrival, ...]:
    return tuple(
        Arrival(
            device=moved.device,
            node=moved.node,
            takes=moved.bytes_in,
            free=facts.spaces[moved.device].free if moved.device in facts.spaces else None,
        )
        for moved in movement.devices
        if moved.bytes_in
    )


def _lines(
    facts: Facts,
    node: NodeRow,
    changes: tuple[GroupChange, ...],
    before: _Before,
    survivals: Iterable[Survival],
    *,
    dead: bool,
    successor: NodeRow | None,
) -> Iterator[str]:
    devices = len([view for view in facts.devices_of(node.node) if view.health is not DeviceHealth.LOST])
    verb = "is given up" if dead else "is emptied"
    yield f"{node.name} ({_place(node)}) {verb}: {_count(devices, 'device')}, member of {_count(len(changes), 'group')}"
    if successor is not None:
        yield f"{successor.name} ({_place(successor)}) takes its place"
    voting = [change for change in changes if change.votes]
    for change in voting[:LISTED_MAX]:
        heirs = ", ".join(facts.name_of(heir) for heir in change.takes_over)
        told = f"{heirs} takes over the vote" if heirs else "nobody takes over the vote"
        yield f"{change.name}: {told}; {quorum.voters(change.voters_after)} after, {change.voters_before} now"
    if len(voting) > LISTED_MAX:
        yield f"and {len(voting) - LISTED_MAX} more groups likewise"
    for found in survivals:
        if found.before is not None:
            now = max(0, found.before.nodes - before.lost_nodes)
            meanwhile = min(now, found.after.nodes)
            yield (
                f"{found.profile.name}: losses of nodes survived: {now} now,"
                f" {meanwhile} while data moves, {found.after.nodes} after"
            )


def _estimates(facts: Facts, arrivals: tuple[Arrival, ...], *, dead: bool) -> Iterator[str]:
    verb = "are rebuilt from others" if dead else "move away"
    yield f"{format_bytes(facts.held_bytes)} in fragments of {_count(facts.held_blocks, 'block')} {verb}"
    for arrival in sorted(arrivals, key=lambda a: (-a.takes, a.device))[:LISTED_MAX]:
        left = "" if arrival.free is None else f", {format_bytes(max(0, arrival.free - arrival.takes))} free after"
        yield f"{facts.name_of(arrival.node)} {hex_id(arrival.device)}: takes {format_bytes(arrival.takes)}{left}"
    if len(arrivals) > LISTED_MAX:
        yield f"and {len(arrivals) - LISTED_MAX} more devices take the rest"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
