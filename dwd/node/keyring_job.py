"""Kind "keyring.rotate": the cluster gets a new key, and what was sealed with older ones is sealed with it.

    make the new key      drawn here, sealed to every node, put in control by one command: all nodes or none
    wrap keys anew        the authority's, secrets of access keys, keys of buckets and named keys: page by page
    retire the old key    every node's ring without it, once nothing names it

Objects are not touched: their data keys are wrapped by keys of buckets, named keys and customers. A node that is away
finds its ring in control when it returns. Dying anywhere is harmless: a key that was drawn and not committed is gone,
boxes change by compare-and-swap, and old keys stay until the last command.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Protocol, TypeVar

from dwd.base.clock import Clock
from dwd.base.errors import Conflict, InvalidArgument, InvariantViolation, Unavailable
from dwd.base.ids import NodeId, hex_id
from dwd.jobs.kinds import JobPlan, RunningJob
from dwd.meta.core.control.key_commands import RetireKeys, RewrapBoxes, RotateKeyring
from dwd.meta.core.control.queries import GetTopology, ListBoxes, Topology
from dwd.meta.core.control.rows import BoxChange, BoxKind, Liveness, SealedBox, SealedRing
from dwd.meta.core.query import Query
from dwd.security.keyring import Keyring, seal_keyring
from dwd.security.rewrapping import Rewrapper

A = TypeVar("A")

STEPS = ("make the new key", "wrap keys anew", "retire the old key")
READ_SECONDS = 10.0
PAGE = 500
WAIT_SECONDS = 0.2
ADOPTED_WITHIN = 100
"""Waits until this node's own copy of control has brought the new ring; then the step is begun again later."""


class Control(Protocol):
    """What the kind asks of metadata."""

    async def read(self, query: Query[A], *, deadline: float) -> A: ...


class RotateKind:
    """No arguments."""

    name = "keyring.rotate"

    def __init__(self, *, node: NodeId, meta: Control, ring: Keyring, clock: Clock) -> None:
        self._node, self._meta, self._ring, self._clock = node, meta, ring, clock

    async def plan(
        self,
        arguments: Mapping[str, str],
        *,
        force: bool,  # noqa: ARG002 - nothing is refused that could be forced
    ) -> JobPlan:
        if arguments:
            raise InvalidArgument("job.unknown_argument", f"{self.name} takes no arguments")
        topology = await self._topology()
        present = _version(topology)
        counts = dict.fromkeys(BoxKind, 0)
        for kind in BoxKind:
            async for page in self._pages(kind):
                counts[kind] += len(page)
        away = [row.name for row in topology.nodes if row.liveness is Liveness.DOWN]
        wrapped = (
            f"wrapped anew: keys of {counts[BoxKind.BUCKET]} buckets, {counts[BoxKind.NAMED_KEY]} named keys,"
            f" {counts[BoxKind.ACCESS_KEY]} access keys, the authority's key"
        )
        return JobPlan(
            steps=STEPS,
            lines=(
                f"the cluster's keys go from version {present} to {present + 1} on {len(topology.nodes)} nodes",
                wrapped,
                "objects are not touched",
            ),
            warnings=(f"get the new key when they return: {', '.join(sorted(away))}",) if away else (),
            total=sum(counts.values()),
            unit="keys",
            details=json.dumps({"from": present}, sort_keys=True).encode(),
        )

    async def run(self, job: RunningJob) -> None:
        version = 1 + int(json.loads(job.plan.details)["from"])
        match job.step:
            case 0:
                await self._make(job, version)
            case 1:
                await self._wrap(job, version)
            case 2:
                await self._wrap(job, version)  # what came while the step before ended
                topology = await self._topology()
                rings = self._rings(topology, self._ring.retired())
                await _ask_again_later(job, RetireKeys(version=version, rings=rings))
            case _:
                raise InvariantViolation(f"{self.name} has no step {job.step}")

    async def verify(self, job: RunningJob) -> None:
        """Every key opens with the new key alone."""
        version = 1 + int(json.loads(job.plan.details)["from"])
        await self._adopted(job, lambda: self._ring.versions == (version,))
        await self._wrap(job, version)
        job.conclude(f"all keys are wrapped by version {version}; older versions are gone from every node's ring")

    async def cancelled(self, job: RunningJob) -> None:
        """Old keys stay in the ring; the next rotation retires them."""

    async def _make(self, job: RunningJob, version: int) -> None:
        topology = await self._topology()
        present = _version(topology)
        if present == version:
            return  # an earlier runner did
        if present != version - 1:
            raise Conflict("keyring.changed", f"the keyring is at version {present} already", hint="plan it again")
        await self._adopted(job, lambda: self._ring.active_version == present)
        rings = self._rings(topology, self._ring.rotated())
        await _ask_again_later(job, RotateKeyring(version=version, rings=rings))

    async def _wrap(self, job: RunningJob, version: int) -> None:
        await self._adopted(job, lambda: self._ring.active_version == version)
        rewrapper, done = Rewrapper(self._ring), 0
        for kind in BoxKind:
            async for page in self._pages(kind):
                changes = tuple(
                    BoxChange(kind=kind, name=one.name, old=one.box, new=_again(rewrapper, one))
                    for one in page
                    if not rewrapper.is_current(one.box)
                )
                if changes:
                    await job.control(RewrapBoxes(boxes=changes))
                done += len(page)
                await job.report(done=done)

    async def _adopted(self, job: RunningJob, is_so: Callable[[], bool]) -> None:
        """Raises Unavailable when this node's copy of control does not bring the ring."""
        for _ in range(ADOPTED_WITHIN):
            self._ring.refresh()
            if is_so():
                return
            await job.wait(WAIT_SECONDS)
        raise Unavailable("keyring.behind", f"node {hex_id(self._node)} has not got the newest keys yet")

    async def _topology(self) -> Topology:
        return await self._meta.read(GetTopology(), deadline=self._clock.monotonic() + READ_SECONDS)

    async def _pages(self, kind: BoxKind) -> AsyncIterator[tuple[SealedBox, ...]]:
        after, more = "", True
        while more:
            query = ListBoxes(kind=kind, after=after, limit=PAGE)
            answer = await self._meta.read(query, deadline=self._clock.monotonic() + READ_SECONDS)
            if answer.boxes:
                yield answer.boxes
                after = answer.boxes[-1].name
            more = answer.more and bool(answer.boxes)

    def _rings(self, topology: Topology, ring: Keyring) -> tuple[SealedRing, ...]:
        return tuple(SealedRing(node=row.node, box=seal_keyring(ring, row.sealing_key)) for row in topology.nodes)


async def _ask_again_later(job: RunningJob, command: RotateKeyring | RetireKeys) -> None:
    """A node that came or went meanwhile is no failure: the step is begun again."""
    try:
        await job.control(command)
    except Conflict as error:
        if not error.code.startswith("meta.keyring_"):
            raise
        raise Unavailable("keyring.changing", error.message) from error


def _version(topology: Topology) -> int:
    if topology.cluster is None:
        raise Unavailable("cluster.not_initialised", "this node does not know its cluster yet", hint="try again soon")
    return topology.cluster.keyring_version


def _again(rewrapper: Rewrapper, one: SealedBox) -> bytes:
    match one.kind:
        case BoxKind.AUTHORITY:
            return rewrapper.authority_key(one.box)
        case BoxKind.ACCESS_KEY:
            return rewrapper.access_key(one.name, one.box)
        case BoxKind.BUCKET:
            return rewrapper.bucket_key(one.name, one.box)
        case BoxKind.NAMED_KEY:
            return rewrapper.named_key(one.name, one.box)
