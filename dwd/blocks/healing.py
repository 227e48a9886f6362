"""The parts of a node that heal, together: what operators look at and turn."""

from __future__ import annotations

from dataclasses import dataclass

from dwd.blocks.heal_queue import HealQueue
from dwd.blocks.ledger import Ledger
from dwd.blocks.pacing import Pacing
from dwd.blocks.repair_worker import RepairWorker
from dwd.blocks.walker import Walker


@dataclass(frozen=True, slots=True, kw_only=True)
class HealParts:
    walker: Walker
    worker: RepairWorker
    queue: HealQueue
    ledger: Ledger
    pacing: Pacing
