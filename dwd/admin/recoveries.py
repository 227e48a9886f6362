"""The record that control keeps of each recovery: who gave up which quorum, when, by which plan.

recovery.EPOCH = JSON     a setting of control; EPOCH in 16 hex digits. The whole plan lies in the recovery.json of
                          every survivor.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from dwd.base.errors import DwError
from dwd.base.ids import NodeId, hex_id, parse_hex_id
from dwd.meta.core.control.commands import SetSetting
from dwd.meta.core.control.queries import Topology
from dwd.raft.quorum_loss.plan import Order

PREFIX = "recovery."
SURVIVORS_MAX = 40
"""Named in the record, which has to fit a setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryRecord:
    epoch: int
    plan: str
    ordered_by: str
    ordered_unix_ms: int
    survivors: tuple[NodeId, ...]
    groups: int
    """How many were carried on."""
    groups_with_losses: int
    """Of those, where acknowledged entries may be gone."""


def record_command(order: Order) -> SetSetting:
    """The command that puts it into control. May be repeated."""
    carried = [plan for plan in order.plan.groups if plan.chosen]
    document = {
        "plan": order.plan.hash,
        "by": order.ordered_by,
        "at": order.ordered_unix_ms,
        "survivors": [hex_id(node) for node in order.plan.nodes[:SURVIVORS_MAX]],
        "groups": len(carried),
        "losses": sum(1 for plan in order.plan.groups if plan.losses_possible),
    }
    return SetSetting(name=f"{PREFIX}{hex_id(order.epoch)}", value=json.dumps(document, separators=(",", ":")))


def records(topology: Topology) -> tuple[RecoveryRecord, ...]:
    """By epoch, the oldest first. What cannot be read is left out."""
    found = []
    for row in topology.settings:
        if row.name.startswith(PREFIX):
            try:
                document = json.loads(row.value)
                found.append(
                    RecoveryRecord(
                        epoch=parse_hex_id(row.name.removeprefix(PREFIX)),
                        plan=document["plan"],
                        ordered_by=document["by"],
                        ordered_unix_ms=document["at"],
                        survivors=tuple(NodeId(parse_hex_id(node)) for node in document["survivors"]),
                        groups=document["groups"],
                        groups_with_losses=document["losses"],
                    )
                )
            except (ValueError, KeyError, TypeError, DwError):
                continue
    return tuple(sorted(found, key=lambda record: record.epoch))
