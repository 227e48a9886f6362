"""Recovery when quorums are gone for good, led by whichever survivor an operator asks: plan, apply, record.

Nothing here needs a leader: every node is asked itself, over certificates that each checks alone. An order is first
written down on all survivors, and only then carried out (`dwd.raft.quorum_loss.execution`), so that an `apply` that was
cut off is simply made again: the order it finds under the same hash is gone on with.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import structlog

from dwd.admin.context import OPERATION_SECONDS, PEER_SECONDS, AdminContext
from dwd.admin.recoveries import record_command, records
from dwd.admin.rpc.leaders import stub_of
from dwd.admin.rpc.raft_status import kind_of
from dwd.base.errors import Conflict, DwError, SafetyRefused, Unavailable
from dwd.base.ids import CONTROL_GROUP, ID_BITS, GroupId, NodeId, ReplicaId, Term, hex_id
from dwd.pb.admin.v1 import consensus_pb2 as pb
from dwd.raft.quorum_loss.epochs import epoch_name
from dwd.raft.quorum_loss.plan import (
    EPOCH_CHANCE_BITS,
    GroupPlan,
    Installation,
    NodeReport,
    Order,
    RecoveryPlan,
    decode_order,
    decode_report,
    encode_order,
    encode_report,
    make_plan,
    next_epoch,
)
from dwd.rpc.calls import call

COMMIT_SECONDS = 300.0
"""A survivor may have much to apply."""
RECORD_SECONDS = 60.0
RECORD_PAUSE_SECONDS = 0.5
ROUNDS_MAX = 3
"""Of asking newly learnt nodes."""
_log = structlog.get_logger("dwd.admin")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """What one node said of itself."""

    report: NodeReport
    orders: tuple[Order, ...]


def inspect(context: AdminContext) -> pb.InspectReply:
    """This node alone."""
    return pb.InspectReply(
        report=encode_report(context.recovery.report()),
        orders=[encode_order(order) for order in context.recovery.orders()],
    )


async def plan_recovery(context: AdminContext) -> pb.RecoveryPlan:
    """Raises SafetyRefused when every group has its quorum."""
    plan = _plan(context, await _ask_all(context))
    _require_lost(plan)
    return _plan_message(context, plan)


async def apply_recovery(context: AdminContext, wanted: str, *, ordered_by: str) -> AsyncIterator[pb.RecoveryProgress]:
    """Raises SafetyRefused, Conflict, Unavailable; whatever broke off may be made again."""
    answers = await _ask_all(context)
    order = _under_way(answers, wanted)
    if order is None:
        order = _order(context, _plan(context, answers), wanted, ordered_by)
    elif context.node not in order.plan.nodes:
        raise _not_a_survivor()
    names = _names(context)
    done = {answer.report.node for answer in answers if answer.report.epoch == order.epoch}
    waiting = [node for node in order.plan.nodes if node not in done]
    if waiting:
        await _prepare(context, order, waiting, names)
        yield pb.RecoveryProgress(step=f"{len(order.plan.nodes)} nodes have written the order down")
    for node in sorted(waiting, key=lambda n: (not order.on(n), n)):
        await _commit(context, order, node)
        carried = [one.group for one in order.on(node)]
        what = f"carries on {len(carried)} groups" if carried else "goes on"
        yield pb.RecoveryProgress(step=f"{names.get(node, hex_id(node))} {what} in epoch {epoch_name(order.epoch)}")
    yield pb.RecoveryProgress(step="waiting for control to take the record")
    await _record(context, order)
    _log.warning("recovery finished", epoch=epoch_name(order.epoch), plan=order.plan.hash, ordered_by=ordered_by)
    groups = [one.group for one in order.installations]
    yield pb.RecoveryProgress(step="recovered", finished=True, epoch=order.epoch, groups=groups)


def list_recoveries(context: AdminContext) -> pb.ListRecoveriesReply:
    return pb.ListRecoveriesReply(
        recoveries=[
            pb.Recovery(
                epoch=record.epoch,
                plan=record.plan,
                ordered_by=record.ordered_by,
                ordered_unix_ms=record.ordered_unix_ms,
                survivors=[hex_id(node) for node in record.survivors],
                groups=record.groups,
                groups_with_losses=record.groups_with_losses,
            )
            for record in records(context.meta.view.topology())
        ]
    )


# -- asking ----------------------------------------------------------------------------------------------------------


async def _ask_all(context: AdminContext) -> list[_Answer]:
    asked: dict[NodeId, _Answer | None] = {}
    for _ in range(ROUNDS_MAX):
        new = [node for node in dict.fromkeys(context.known_nodes()) if node not in asked]
        if not new:
            break
        asked.update(zip(new, await asyncio.gather(*(_ask(context, node) for node in new)), strict=True))
    return [answer for answer in asked.values() if answer is not None]


async def _ask(context: AdminContext, node: NodeId) -> _Answer | None:
    if node == context.node:
        return _Answer(report=context.recovery.report(), orders=context.recovery.orders())
    try:
        reply = await call(stub_of(context, node).Inspect, pb.InspectRequest(), seconds=PEER_SECONDS, mutation=False)
        return _Answer(report=decode_report(reply.report), orders=tuple(decode_order(o) for o in reply.orders))
    except DwError as error:
        _log.info("node does not tell what it has", peer=hex_id(node), error=str(error))
        return None


def _plan(context: AdminContext, answers: Sequence[_Answer]) -> RecoveryPlan:
    topology = context.meta.view.topology_or_none()
    shards = {r.group for r in topology.shard_map.ranges} if topology is not None else set()
    plan = make_plan((answer.report for answer in answers), context.known_nodes(), sorted({CONTROL_GROUP, *shards}))
    if context.node not in plan.nodes:
        raise _not_a_survivor()
    return plan


def _not_a_survivor() -> SafetyRefused:
    return SafetyRefused(
        "recover.not_a_survivor",
        "the cluster was recovered without the node that was asked",
        hint="wipe this node; ask one that lives on, with --context",
    )


def _require_lost(plan: RecoveryPlan) -> None:
    if not plan.groups:
        raise SafetyRefused(
            "recover.quorum_alive",
            f"all {len(plan.alive)} groups have a leader, or voters that can elect one",
            hint="nothing has to be given up; if nodes were lost just now, look again in a few seconds; "
            "see `dwctl raft status`",
        )


# -- ordering --------------------------------------------------------------------------------------------------------


def _under_way(answers: Sequence[_Answer], wanted: str) -> Order | None:
    """An order of that hash that some node has: one that was carried out somewhere before one that was not."""
    found = [
        (answer.report.epoch == order.epoch, order)
        for answer in answers
        for order in answer.orders
        if order.plan.hash == wanted
    ]
    newest = max((answer.report.epoch for answer in answers), default=0)
    fitting = [pair for pair in found if pair[1].epoch == newest or pair[1].plan.epoch == newest]
    return max(fitting, key=lambda pair: (pair[0], pair[1].epoch))[1] if fitting else None


def _order(context: AdminContext, plan: RecoveryPlan, wanted: str, ordered_by: str) -> Order:
    _require_lost(plan)
    if plan.hash != wanted:
        raise Conflict(
            "recover.stale",
            "what the survivors hold is not what it was when that plan was made; nothing was done",
            hint="look at the new one: `dwctl cluster recover plan`",
        )
    if not any(group.chosen for group in plan.groups):
        raise SafetyRefused(
            "recover.nothing_left",
            "no survivor holds anything of the groups that are lost",
            hint="bring back a node that held them, or restore from elsewhere",
        )
    return Order(
        epoch=next_epoch(plan.epoch, secrets.randbits(EPOCH_CHANCE_BITS)),
        plan=plan,
        installations=tuple(
            Installation(
                group=group.group,
                node=group.chosen,
                replica=ReplicaId(secrets.randbits(ID_BITS) | 1),
                term=Term(max(max(s.term, s.last_term) for s in group.survivors) + 1),
            )
            for group in plan.groups
            if group.chosen
        ),
        ordered_by=ordered_by,
        ordered_unix_ms=context.clock.unix_ms(),
    )


async def _prepare(context: AdminContext, order: Order, nodes: Sequence[NodeId], names: dict[NodeId, str]) -> None:
    """On all or not at all, as far as acting goes: nobody acts on it yet. Raises Unavailable, Conflict."""
    encoded = encode_order(order)

    async def one(node: NodeId) -> DwError | None:
        try:
            if node == context.node:
                await context.recovery.prepare(order)
            else:
                request = pb.PrepareRecoveryRequest(order=encoded)
                stub = stub_of(context, node)
                await call(stub.PrepareRecovery, request, seconds=OPERATION_SECONDS, mutation=False)
        except DwError as error:
            return error
        return None

    for node, error in zip(nodes, await asyncio.gather(*map(one, nodes)), strict=True):
        if isinstance(error, Conflict):
            raise error
        if error is not None:
            raise Unavailable(
                "recover.survivor_silent",
                f"node {names.get(node, hex_id(node))} did not write the order down: {error.message}",
                hint="make the same call again; if that node is gone too, make a new plan",
            )


async def _commit(context: AdminContext, order: Order, node: NodeId) -> None:
    if node == context.node:
        await context.recovery.obey()
    else:
        request = pb.CommitRecoveryRequest(epoch=order.epoch)
        await call(stub_of(context, node).CommitRecovery, request, seconds=COMMIT_SECONDS, mutation=True)


async def commit_here(context: AdminContext, epoch: int) -> None:
    """Raises Conflict when another order is written down here."""
    if context.recovery.epoch == epoch:
        return
    if all(order.epoch != epoch for order in context.recovery.orders()):
        raise Conflict("recover.other_order", "this node has no such order", hint="make a new plan")
    await context.recovery.obey()


async def _record(context: AdminContext, order: Order) -> None:
    """Once control has a leader again, which takes a moment. Raises what it failed with last."""
    deadline = context.clock.monotonic() + RECORD_SECONDS
    while True:
        try:
            await context.meta.control(record_command(order), deadline=context.deadline(PEER_SECONDS))
        except DwError as error:
            if not error.retryable or context.clock.monotonic() > deadline:
                raise
        else:
            return
        await asyncio.sleep(RECORD_PAUSE_SECONDS)


# -- telling ---------------------------------------------------------------------------------------------------------


def _names(context: AdminContext) -> dict[NodeId, str]:
    topology = context.meta.view.topology_or_none()
    return {} if topology is None else {row.node: row.name or hex_id(row.node) for row in topology.nodes}


def _plan_message(context: AdminContext, plan: RecoveryPlan) -> pb.RecoveryPlan:
    names = _names(context)
    reply = pb.RecoveryPlan(hash=plan.hash, epoch=plan.epoch, alive=plan.alive)
    reply.nodes.extend(pb.RaftNode(id=hex_id(n), name=names.get(n, ""), state="survives") for n in plan.nodes)
    reply.gone.extend(pb.RaftNode(id=hex_id(n), name=names.get(n, ""), state="gone") for n in plan.gone)
    reply.groups.extend(_group_message(group, names) for group in plan.groups)
    return reply


def _group_message(plan: GroupPlan, names: dict[NodeId, str]) -> pb.LostGroup:
    surviving = {survivor.replica for survivor in plan.survivors}
    made = pb.LostGroup(
        group=plan.group,
        kind=kind_of(GroupId(plan.group)),
        chosen=hex_id(plan.chosen) if plan.chosen else "",
        committed_index=plan.committed,
        kept_index=plan.kept,
        losses_possible=plan.losses_possible,
    )
    for seat in plan.voters:
        made.voters.add(
            node=hex_id(seat.node),
            name=names.get(seat.node, ""),
            replica=hex_id(seat.replica),
            survives=seat.replica in surviving,
        )
    for survivor in plan.survivors:
        made.survivors.add(
            node=hex_id(survivor.node),
            name=names.get(survivor.node, ""),
            replica=hex_id(survivor.replica),
            term=survivor.term,
            last_term=survivor.last_term,
            last_index=survivor.last_index,
            commit_index=survivor.commit,
            tail_doubt=survivor.doubtful,
            unfit=survivor.unfit,
            chosen=survivor.node == plan.chosen,
        )
    return made
