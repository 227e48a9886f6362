"""Groups that nobody uses rest: no ticks, no heartbeats, their state machine closed. Their nodes speak for all of them.

    leader                      members                       every node that has a member of a resting group
      │── Nap(term, index) ──────►│  stands exactly there?        │── Beat(boot, digest) ──► the others,
      │◄── NapReply(agreed) ──────│  rests from now on            │   every heartbeat interval
      rests once all have agreed

A member rests only where it lacks nothing, and the leader only when everybody agreed who is not known to be dead; while
it asks, its heartbeats are held back, so that none wakes those who agreed. A group is awake as soon as its core has
anything to say or anything waits for it, whoever caused it: a proposal, a read, a message. A member that wakes tells
its leader (a NapReply that does not agree), whose heartbeats wake the others. What nobody would say:
* the leader's node falls silent, or its streams break: those behind it wake, and the silence counts as theirs;
* a node that was dead when its members were left out is heard again: the leader wakes and feeds them;
* a member's node falls silent: the leader wakes, and check-quorum decides whether it still leads;
* a node began a new run (`Beat.boot`): whatever it led, it does not any more; what it held, it may have lost;
* the leader woke and its words were lost, or its replica is gone while its node lives: its digest of resting groups no
  longer is what the receiver thinks, for `DIGESTS_MAX` beats on end: those behind it wake.
Waking is always safe: it costs an interval of heartbeats.

Silence is counted in ticks of this loop, not in seconds: a pause of this process must not make its groups stand.

Source: CockroachDB, "quiescent ranges" (pkg/kv/kvserver/replica_raft_quiesce.go) and its store liveness; TiKV,
"Hibernate Region" (RFC 2019-05, components/raftstore: the leader asks, PreVote of a waking peer wakes the rest).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog

from dwd.base.ids import GroupId, LogIndex, NodeId, ReplicaId, Term, hex_id
from dwd.raft.core.types import Configuration, Role
from dwd.raft.options import HostOptions
from dwd.raft.replica import Replica
from dwd.raft.telemetry import HIBERNATIONS
from dwd.raft.transport import NODES, Beat, Nap, NapReply, Transport

LOOK_TICKS = 5
"""Between looks for groups that nobody uses."""
ASK_TICKS_SHARE = 3
"""Members are asked for at most this part of the shortest election timeout: none stands because of it."""
DEAD_TIMEOUTS = 3
"""Election timeouts of silence after which a node's members are left out."""
DIGESTS_MAX = 3
_MASK = (1 << 64) - 1

_log = structlog.get_logger("dwd.raft")


@dataclass(slots=True, kw_only=True)
class _Asking:
    """Of a leader: those that have not agreed yet."""

    term: Term
    index: LogIndex
    waiting: set[ReplicaId]
    away: frozenset[ReplicaId]
    until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rest:
    """A resting group. `leader`: its leader's node, 0 where that is this one. `nodes`: that node; of a leader those of
    the other members, of which `away` were dead.
    """

    leader: NodeId
    led_by: ReplicaId
    term: Term
    index: LogIndex
    nodes: frozenset[NodeId]
    away: frozenset[NodeId]
    digest: int


class Hibernation:
    """One a host, on its loop. `wake_at_once` and `tick` are the engine's; everything else are events."""

    def __init__(
        self,
        *,
        node: NodeId,
        boot: int,
        replicas: Mapping[GroupId, Replica],
        options: HostOptions,
        transport: Transport,
        stir: Callable[[GroupId], None],
    ) -> None:
        self._node = node
        self._boot = boot
        self._replicas = replicas
        self._options = options
        self._transport = transport
        self._stir = stir
        self._ticks = 0
        self._asking: dict[GroupId, _Asking] = {}
        self._resting: dict[GroupId, _Rest] = {}
        self._peers: Counter[NodeId] = Counter()
        """Nodes with members of resting groups, and of how many."""
        self._led: dict[NodeId, int] = {}
        """By node with members: the digest of the resting groups led here."""
        self._behind: dict[NodeId, int] = {}
        """By leader's node: the digest of the groups that rest behind it."""
        self._heard: dict[NodeId, int] = {}
        self._silent: set[NodeId] = set()
        self._boots: dict[NodeId, int] = {}
        self._disagreed: Counter[NodeId] = Counter()

    def rests(self, group: GroupId) -> bool:
        return group in self._resting

    def __len__(self) -> int:
        """How many groups rest here."""
        return len(self._resting)

    # -- what happens -------------------------------------------------------------------------------------------

    def heard(self, node: NodeId) -> None:
        """Anything came from `node`."""
        self._heard[node] = self._ticks
        if node in self._silent:
            self._silent.discard(node)
            self._wake_where(lambda rest: not rest.leader and node in rest.away)

    def beat(self, node: NodeId, beat: Beat) -> None:
        known, self._boots[node] = self._boots.get(node), beat.boot
        if known not in (None, beat.boot):
            _log.info("node began a new run", peer=hex_id(node))
            self._wake_where(lambda rest: rest.leader == node or (not rest.leader and node in rest.nodes))
        if beat.resting == self._behind.get(node, 0):
            self._disagreed.pop(node, None)
            return
        self._disagreed[node] += 1
        if self._disagreed[node] >= DIGESTS_MAX:
            del self._disagreed[node]
            _log.info("leader's node no longer knows what rests behind it", peer=hex_id(node))
            self._wake_where(lambda rest: rest.leader == node)

    def unreachable(self, node: NodeId) -> None:
        """A stream to or from `node` broke: most likely its process died."""
        self._wake_where(lambda rest: rest.leader == node)

    def asked(self, replica: Replica, node: NodeId, nap: Nap) -> None:
        """The leader on `node` says that nothing is to come."""
        agreed = not replica.waits() and replica.core.may_rest_behind(nap.source, nap.term, nap.index)
        reply = NapReply(source=replica.id, target=nap.source, term=nap.term, index=nap.index, agreed=agreed)
        if agreed and replica.group not in self._resting:
            self._rest(replica, nap.source, nap.term, nap.index, leader=node, away=frozenset())
        elif not agreed:
            self.wake(replica)
        self._transport.send(node, replica.group, [reply])

    def answered(self, replica: Replica, reply: NapReply) -> None:
        asking, rest = self._asking.get(replica.group), self._resting.get(replica.group)
        if not reply.agreed:
            if (rest or asking) and replica.soft.term == reply.term:
                self.wake(replica)
            return
        if asking is None or (asking.term, asking.index) != (reply.term, reply.index):
            return
        asking.waiting.discard(reply.source)
        if not asking.waiting:
            self._all_agreed(replica, asking)

    def wake(self, replica: Replica, *, silent_ticks: int = 0) -> None:
        """Go on, and tell the leader if it is elsewhere. Nothing if it neither rests nor asks."""
        rest = self._forget(replica.group)
        if rest is None and not replica.dormant:
            return
        replica.dormant = False
        replica.used()
        replica.core.woken(silent_ticks=silent_ticks, alive=self._members_on(replica, lambda n: n not in self._silent))
        self._stir(replica.group)
        if rest is None:
            return
        HIBERNATIONS.add(1, to="awake")
        if rest.leader:
            awake = NapReply(source=replica.id, target=rest.led_by, term=rest.term, index=rest.index, agreed=False)
            self._transport.send(rest.leader, replica.group, [awake])

    def gone(self, replica: Replica) -> None:
        """The replica runs no more."""
        self._forget(replica.group)
        replica.dormant = False

    # -- ticks --------------------------------------------------------------------------------------------------

    def tick(self, now: float) -> None:
        self._ticks += 1
        self._note_silence()
        if self._ticks % self._options.heartbeat_ticks == 0:
            for node in self._peers:
                beat = Beat(boot=self._boot, resting=self._led.get(node, 0))
                self._transport.send(node, NODES, [beat])
        for group in [group for group, asking in self._asking.items() if asking.until <= self._ticks]:
            self.wake(self._replicas[group])
        if self._options.hibernate_seconds and self._ticks % LOOK_TICKS == 0:
            since = now - self._options.hibernate_seconds
            for replica in tuple(self._replicas.values()):
                if not replica.dormant and replica.soft.role is Role.LEADER and replica.used_at <= since:
                    self._ask(replica)

    def _note_silence(self) -> None:
        patience = self._options.election_ticks
        for node in tuple(self._peers):
            ticks = self._silence(node)
            if ticks <= patience or node in self._silent:
                continue
            self._silent.add(node)
            self._wake_where(lambda rest, node=node: rest.leader == node, silent_ticks=ticks)  # type: ignore[misc]
            self._wake_where(
                lambda rest, node=node: not rest.leader and node in rest.nodes and node not in rest.away  # type: ignore[misc]
            )

    def _silence(self, node: NodeId) -> int:
        return self._ticks - self._heard.get(node, 0)

    def _ask(self, replica: Replica) -> None:
        if replica.group in self._options.always_awake or replica.waits() or replica.absent:
            return
        dead = DEAD_TIMEOUTS * self._options.election_ticks
        away = self._members_on(replica, lambda node: self._silence(node) > dead)
        if not replica.core.may_rest(away):
            return
        term, index = replica.soft.term, replica.applier.applied
        others = {m.replica: m.node for m in _configuration(replica).members if m.replica != replica.id}
        present = {r: node for r, node in others.items() if r not in away}
        until = self._ticks + max(1, self._options.election_ticks // ASK_TICKS_SHARE)
        asking = _Asking(term=term, index=index, waiting=set(present), away=away, until=until)
        self._asking[replica.group] = asking
        replica.dormant = True
        for target, node in present.items():
            nap = Nap(source=replica.id, target=target, term=term, index=index)
            self._transport.send(node, replica.group, [nap])
        if not present:
            self._all_agreed(replica, asking)

    def _all_agreed(self, replica: Replica, asking: _Asking) -> None:
        """Whatever came meanwhile has woken the group; it is looked at once more all the same."""
        del self._asking[replica.group]
        if replica.waits() or not replica.core.may_rest(asking.away):
            self.wake(replica)
            return
        away = frozenset(m.node for m in _configuration(replica).members if m.replica in asking.away)
        self._rest(replica, replica.id, asking.term, asking.index, leader=NodeId(0), away=away)

    def _rest(
        self,
        replica: Replica,
        led_by: ReplicaId,
        term: Term,
        index: LogIndex,
        *,
        leader: NodeId,
        away: frozenset[NodeId],
    ) -> None:
        others = frozenset(m.node for m in _configuration(replica).members if m.node != self._node)
        nodes = frozenset({leader}) if leader else others
        digest = _digest(replica.group, led_by, term, index)
        rest = _Rest(leader=leader, led_by=led_by, term=term, index=index, nodes=nodes, away=away, digest=digest)
        self._resting[replica.group] = rest
        self._toggle(rest)
        for node in nodes:
            self._peers[node] += 1
            if node in away:
                self._silent.add(node)
            else:
                self._heard.setdefault(node, self._ticks)
        replica.dormant = True
        replica.core.forget_entries()
        replica.applier.rest()
        HIBERNATIONS.add(1, to="resting")

    # -- bookkeeping --------------------------------------------------------------------------------------------

    def _forget(self, group: GroupId) -> _Rest | None:
        self._asking.pop(group, None)
        rest = self._resting.pop(group, None)
        if rest is None:
            return None
        self._toggle(rest)
        for node in rest.nodes:
            self._peers[node] -= 1
            if not self._peers[node]:
                del self._peers[node]
                self._silent.discard(node)
                self._disagreed.pop(node, None)
        return rest

    def _toggle(self, rest: _Rest) -> None:
        """Put the group into the digests, or take it out."""
        if rest.leader:
            self._behind[rest.leader] = self._behind.get(rest.leader, 0) ^ rest.digest
            return
        for node in rest.nodes - rest.away:
            self._led[node] = self._led.get(node, 0) ^ rest.digest

    def _wake_where(self, concerned: Callable[[_Rest], bool], *, silent_ticks: int = 0) -> None:
        for group in [group for group, rest in self._resting.items() if concerned(rest)]:
            self.wake(self._replicas[group], silent_ticks=silent_ticks)

    def _members_on(self, replica: Replica, where: Callable[[NodeId], bool]) -> frozenset[ReplicaId]:
        members = _configuration(replica).members
        return frozenset(m.replica for m in members if m.node != self._node and where(m.node))


def _configuration(replica: Replica) -> Configuration:
    """The applied one: of a group that may rest there is no other."""
    return replica.configurations[-1][1]


def _digest(*numbers: int) -> int:
    """64 well mixed bits of a few numbers, the same on every node. Source: the finaliser of splitmix64 (Vigna)."""
    mixed = 0
    for number in numbers:
        mixed = (mixed + number + 0x9E3779B97F4A7C15) & _MASK
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        mixed ^= mixed >> 31
    return mixed
