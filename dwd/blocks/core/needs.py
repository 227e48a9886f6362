"""What one block needs, by its row, the newest layout and who is up: pure judgement, the same for every shard's leader.

Words: a fragment is *away* while its device is not up; a block is *degraded* while a fragment is away, missing or on
loan; *at risk* while one more loss of a domain makes it unreadable; *exposed* when it is both.

The domain is the node; where the layout itself never survived a node, it is the device (`dwd.blocks.core.substitutes`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum

from dwd.base.blocks import StoredBlock
from dwd.base.ids import DeviceId, LayoutEpoch, NodeId
from dwd.blocks.core.profiles import parse_scheme
from dwd.blocks.core.substitutes import one_node
from dwd.blocks.topology import DeviceHealth, DeviceView


class Cause(Enum):
    """Why a block is looked at; the worst of what its row and the devices say."""

    MISSING = "missing"
    """A fragment is nowhere: never written, or found gone or wrong by a read, a scrub or a returning device."""
    DEAD = "dead"
    """A fragment's device is lost, or away for longer than its grace."""
    LOAN = "loan"
    """A fragment lies on another device than its own, whose device takes it again."""
    WEAKER = "weaker"
    """It had to be stored under a weaker profile than its bucket wants."""
    MOVE = "rebalance"
    """The newest layout places a fragment elsewhere."""


class Urgency(IntEnum):
    """What is done first."""

    EXPOSED = 0
    DEGRADED = 1
    UNREADABLE = 2
    """Not enough fragments can be read now: nothing to be done before devices come back, but it is tried."""
    MOVE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """The cluster at one moment, as far as it decides what blocks need. `dead` includes devices unknown here."""

    epoch: LayoutEpoch
    down: frozenset[DeviceId]
    dead: frozenset[DeviceId]
    leaving: frozenset[DeviceId]
    """Up, and take nothing new: their fragments are read and moved away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """`cause` None: nothing can be done now, or nothing is to be done. `margin`: how many more domains may be lost;
    negative: not readable now. `advance`: the row alone is behind, its fragments lie where the newest layout wants
    them. `moves`: fragments that something else than their own place holds, as (index, from, to).
    """

    cause: Cause | None
    margin: int
    degraded: bool
    at_risk: bool
    advance: bool
    moves: tuple[tuple[int, DeviceId | None, DeviceId], ...]

    @property
    def exposed(self) -> bool:
        return self.degraded and self.at_risk

    @property
    def urgency(self) -> Urgency:
        if self.cause is Cause.MOVE and not self.exposed:
            return Urgency.MOVE
        if self.margin < 0:
            return Urgency.UNREADABLE
        return Urgency.EXPOSED if self.exposed else Urgency.DEGRADED


def world_of(epoch: LayoutEpoch, devices: Mapping[DeviceId, DeviceView], now_ms: int, dead_after_ms: int) -> World:
    views = devices.values()
    return World(
        epoch=epoch,
        down=frozenset(v.device for v in views if v.health is not DeviceHealth.UP),
        dead=frozenset(v.device for v in views if is_dead(v, now_ms, dead_after_ms)),
        leaving=frozenset(v.device for v in views if v.health is DeviceHealth.UP and not v.writable),
    )


def is_dead(view: DeviceView, now_ms: int, dead_after_ms: int) -> bool:
    """Its fragments are rebuilt elsewhere: given up, or down for too long."""
    if view.health is DeviceHealth.LOST:
        return True
    return view.health is DeviceHealth.DOWN and now_ms - view.down_since_ms >= dead_after_ms


def judge(
    row: StoredBlock,
    where: Mapping[int, DeviceId],
    intended: Sequence[DeviceId],
    target: Sequence[DeviceId],
    world: World,
    nodes: Mapping[DeviceId, NodeId],
) -> Verdict:
    """`where`: fragments by the row; `intended`: by the row's own layout; `target`: by the newest."""
    scheme = parse_scheme(row.profile)
    there = {index: device for index, device in where.items() if device not in world.down and device in nodes}
    domain = _domain(intended, nodes, scheme.parity)
    margin = _margin(there.values(), domain, scheme.data)
    cause: Cause | None = None
    moves: list[tuple[int, DeviceId | None, DeviceId]] = []
    for index, home in enumerate(target):
        now = where.get(index)
        if now == home and now not in world.dead and now in nodes:
            continue
        found = _fragment(row, index, now, home, world, nodes)
        if found is not None:
            moves.append((index, now, home))
            cause = found if cause is None else min(cause, found, key=_ORDER.index)
    away = len(there) < scheme.fragments
    takers = len(nodes) - len(world.down) - len(world.leaving)
    if row.wanted and takers >= parse_scheme(row.wanted).fragments:
        cause = Cause.WEAKER if cause is None else min(cause, Cause.WEAKER, key=_ORDER.index)
    return Verdict(
        cause=cause,
        margin=margin,
        degraded=row.not_as_wanted or away,
        at_risk=scheme.parity > 0 and margin <= 0,
        advance=row.layout_epoch != world.epoch
        and not row.needs_repair
        and all(where.get(index) == home for index, home in enumerate(target)),
        moves=tuple(moves),
    )


_ORDER = tuple(Cause)


def _fragment(
    row: StoredBlock,
    index: int,
    now: DeviceId | None,
    home: DeviceId,
    world: World,
    nodes: Mapping[DeviceId, NodeId],
) -> Cause | None:
    """What can be done for one fragment that is not at home, or whose home is dead."""
    takes = home in nodes and home not in world.down and home not in world.leaving
    if now is None:
        return Cause.MISSING
    if now in world.dead or now not in nodes:
        return Cause.DEAD
    if not takes and now not in world.leaving:
        return None
    if any(handoff.index == index for handoff in row.handoffs):
        return Cause.LOAN
    return Cause.MOVE


def _domain(intended: Sequence[DeviceId], nodes: Mapping[DeviceId, NodeId], parity: int) -> Mapping[DeviceId, int]:
    """Which domain a device falls with."""
    if one_node(intended, nodes) <= parity:
        return nodes
    return {device: int(device) for device in nodes}


def _margin(there: Iterable[DeviceId], domain: Mapping[DeviceId, int], data: int) -> int:
    """How many domains may be lost, the fullest first, with `data` fragments left; -1: too few are there already."""
    sizes = sorted(Counter(domain[device] for device in there).values())
    left, lost = sum(sizes), -1
    while left >= data:
        lost += 1
        if not sizes:
            break
        left -= sizes.pop()
    return lost
