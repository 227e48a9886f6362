"""What can be saved when quorums are gone for good, decided from what the surviving nodes say. Pure.

A group is *alive* if a leader leads it, or if its voters that answer could elect one: a majority of them free of doubt
about their logs, or all of them (`dwd.raft.core.doubt`). One that is not is *lost*: the replica with the most
up-to-date log, by (last term, last index), carries it on alone under a new replica id, and new members are added to it
as to any other group. What that log holds is kept, whether it was ever committed or not; what it lacks is lost.

What may be lost cannot be known in full: the voters that are gone may have committed entries among themselves that no
survivor has. If those that are gone were no majority (while joint: of neither half), nothing that was acknowledged can
be missing.

Source: raft.md section 6; Ongaro & Ousterhout 2014, 5.4.1 (which of two logs is more up-to-date).
Hazard: nodes that are taken for gone and are not, and hear from no survivor, may go on as the old cluster. The first
word between the two fences them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dwd.base.errors import Corrupt
from dwd.base.ids import GroupId, LogIndex, NodeId, ReplicaId, Term

EPOCH_CHANCE_BITS = 32
"""The low part of an epoch: two recoveries made apart from each other never pass for one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """A member of a group: where, under which id, and whether it votes."""

    node: NodeId
    replica: ReplicaId
    votes: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaReport:
    """One replica as its node finds it. `members` and `outgoing` are the configuration in force there."""

    group: GroupId
    replica: ReplicaId
    term: Term
    last_term: Term
    last_index: LogIndex
    commit: LogIndex
    leads: bool
    doubtful: bool
    """Its log lost its tail: it may lack what it acknowledged."""
    unfit: str
    """Why it cannot carry the group on (broken, quarantined, without data); empty when it can."""
    members: tuple[Seat, ...]
    outgoing: tuple[ReplicaId, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReport:
    node: NodeId
    epoch: int
    replicas: tuple[ReplicaReport, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Survivor:
    """A replica of a lost group that is still there."""

    node: NodeId
    replica: ReplicaId
    term: Term
    last_term: Term
    last_index: LogIndex
    commit: LogIndex
    doubtful: bool
    unfit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupPlan:
    """What becomes of one lost group. `chosen` 0: nobody can carry it on."""

    group: GroupId
    voters: tuple[Seat, ...]
    """Of the newest configuration that any survivor knows, the outgoing ones too."""
    survivors: tuple[Survivor, ...]
    chosen: NodeId
    committed: LogIndex
    """The highest index that a survivor knows to be committed."""
    kept: LogIndex
    """The last index of the chosen log."""
    losses_possible: bool
    """The voters that are gone, or in doubt, could have committed entries after `kept` that nobody else has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryPlan:
    """For one cluster, at one moment. `hash` names it: equal plans have equal hashes."""

    epoch: int
    """Of the survivors now."""
    nodes: tuple[NodeId, ...]
    """Who answered, and goes on."""
    gone: tuple[NodeId, ...]
    """Who did not, or is of an older epoch: fenced from then on, until wiped."""
    alive: tuple[GroupId, ...]
    """Groups that need nothing."""
    groups: tuple[GroupPlan, ...]
    """Lost ones."""

    @property
    def hash(self) -> str:
        """32 hex digits. Groups that are alive go on working, so of them only who they are counts."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:32]


def make_plan(reports: Iterable[NodeReport], known: Iterable[NodeId], groups: Iterable[GroupId]) -> RecoveryPlan:
    """`known` are all nodes of the cluster, `groups` all its groups, as far as the survivors know."""
    heard = {report.node: report for report in reports}
    epoch = max((report.epoch for report in heard.values()), default=0)
    current = {node: report for node, report in heard.items() if report.epoch == epoch}
    found: dict[GroupId, list[tuple[NodeId, ReplicaReport]]] = {group: [] for group in groups}
    for node, report in sorted(current.items()):
        for replica in report.replicas:
            found.setdefault(replica.group, []).append((node, replica))
    alive = tuple(group for group in sorted(found) if _is_alive(found[group]))
    return RecoveryPlan(
        epoch=epoch,
        nodes=tuple(sorted(current)),
        gone=tuple(sorted({*known, *heard} - current.keys())),
        alive=alive,
        groups=tuple(_plan_group(group, found[group]) for group in sorted(found) if group not in alive),
    )


def _is_alive(replicas: Sequence[tuple[NodeId, ReplicaReport]]) -> bool:
    if not replicas:
        return False
    if any(report.leads for _, report in replicas):
        return True
    newest = _newest(replicas)
    working = {report.replica: report for _, report in replicas if not _is_broken(report)}
    return all(_could_elect(half, working) for half in _halves(newest))


def _halves(report: ReplicaReport) -> list[set[ReplicaId]]:
    """The voters, and while the configuration is joint those of the outgoing one."""
    voters = {seat.replica for seat in report.members if seat.votes}
    return [half for half in (voters, set(report.outgoing)) if half]


def _could_elect(voters: set[ReplicaId], working: Mapping[ReplicaId, ReplicaReport]) -> bool:
    """Whether these voters could make one of them leader. A witness or a quarantined replica votes as well as any."""
    answering = [working[replica] for replica in voters if replica in working]
    sure = [report for report in answering if not report.doubtful]
    return len(sure) > len(voters) // 2 or len(answering) == len(voters)


def _is_broken(report: ReplicaReport) -> bool:
    return report.unfit.startswith(BROKEN)


BROKEN = "broken"
"""How the reason of a replica begins that does not even vote."""


def _newest(replicas: Sequence[tuple[NodeId, ReplicaReport]]) -> ReplicaReport:
    return max((report for _, report in replicas), key=lambda r: (r.last_term, r.last_index, r.commit))


def _plan_group(group: GroupId, replicas: Sequence[tuple[NodeId, ReplicaReport]]) -> GroupPlan:
    survivors = tuple(
        Survivor(
            node=node, replica=r.replica, term=r.term, last_term=r.last_term, last_index=r.last_index,
            commit=r.commit, doubtful=r.doubtful, unfit=r.unfit,
        )
        for node, r in replicas
    )  # fmt: skip
    voters: tuple[Seat, ...] = ()
    halves: list[set[ReplicaId]] = []
    if replicas:
        newest = _newest(replicas)
        halves = _halves(newest)
        voters = tuple(seat for seat in newest.members if seat.votes or seat.replica in newest.outgoing)
    fit = [s for s in survivors if not s.unfit and s.last_index > 0]
    best = max(fit, key=lambda s: (s.last_term, s.last_index, not s.doubtful, s.commit, -s.node), default=None)
    sure = {s.replica for s in survivors if not s.doubtful and not s.unfit.startswith(BROKEN)}
    return GroupPlan(
        group=group,
        voters=voters,
        survivors=survivors,
        chosen=NodeId(0) if best is None else best.node,
        committed=max((s.commit for s in survivors), default=LogIndex(0)),
        kept=LogIndex(0) if best is None else best.last_index,
        losses_possible=not halves or any(len(half - sure) > len(half) // 2 for half in halves),
    )


# -- an order: a plan that is being carried out ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """`node` carries `group` on as the one voter `replica`, in `term`."""

    group: GroupId
    node: NodeId
    replica: ReplicaId
    term: Term


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What every survivor writes down before any of them acts: whoever has it can go on with it alone."""

    epoch: int
    plan: RecoveryPlan
    installations: tuple[Installation, ...]
    ordered_by: str
    ordered_unix_ms: int

    def on(self, node: NodeId) -> tuple[Installation, ...]:
        return tuple(i for i in self.installations if i.node == node)


def next_epoch(present: int, chance: int) -> int:
    """Later than `present`; `chance` makes it unlike any that somebody else mints now."""
    return ((present >> EPOCH_CHANCE_BITS) + 1) << EPOCH_CHANCE_BITS | (chance & ((1 << EPOCH_CHANCE_BITS) - 1))


def encode_report(report: NodeReport) -> bytes:
    return json.dumps(asdict(report)).encode()


def decode_report(encoded: bytes) -> NodeReport:
    """Raises Corrupt."""
    try:
        document = json.loads(encoded)
        replicas = (
            ReplicaReport(
                **{
                    **replica,
                    "members": tuple(Seat(**seat) for seat in replica["members"]),
                    "outgoing": tuple(replica["outgoing"]),
                }
            )
            for replica in document["replicas"]
        )
        return NodeReport(node=NodeId(document["node"]), epoch=int(document["epoch"]), replicas=tuple(replicas))
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt("raft.recovery_report", "a node's report cannot be read") from error


def encode_order(order: Order) -> bytes:
    return json.dumps(asdict(order), sort_keys=True).encode()


def decode_order(encoded: bytes) -> Order:
    """Raises Corrupt."""
    try:
        document = json.loads(encoded)
        plan = document["plan"]
        return Order(
            epoch=int(document["epoch"]),
            plan=RecoveryPlan(
                epoch=plan["epoch"],
                nodes=tuple(plan["nodes"]),
                gone=tuple(plan["gone"]),
                alive=tuple(plan["alive"]),
                groups=tuple(_group_of(group) for group in plan["groups"]),
            ),
            installations=tuple(Installation(**one) for one in document["installations"]),
            ordered_by=str(document["ordered_by"]),
            ordered_unix_ms=int(document["ordered_unix_ms"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt("raft.recovery_order", "an order of a recovery cannot be read") from error


def _group_of(document: Any) -> GroupPlan:
    return GroupPlan(
        **{
            **document,
            "voters": tuple(Seat(**seat) for seat in document["voters"]),
            "survivors": tuple(Survivor(**survivor) for survivor in document["survivors"]),
        }
    )
