"""The recovery epoch of this node: how often, and which time, a lost quorum was given up in the cluster it belongs to.

Every frame between nodes carries it. An older one is refused; a later one means that the cluster went on without this
node, unless the node holds nothing yet (then it is new, or was wiped, and takes the epoch over), or was told beforehand
that it is among the survivors (then it carries that order out).

    data_dir/recovery.json   {"format": 1, "epoch": N, "fenced_by": N, "order": {...} or null, "done": {...} or null}

It lies with the data it speaks of: who empties the data directory ends the fence with it.
Invariant: the epoch never falls; it is durable before anything is said under it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import structlog

from dwd.base.clock import Clock
from dwd.base.errors import Conflict, Corrupt, SafetyRefused, VersionRefused
from dwd.base.ids import NodeId, hex_id
from dwd.observability.metrics import counter
from dwd.raft.quorum_loss.plan import EPOCH_CHANCE_BITS, Order, decode_order, encode_order
from dwd.runtime.files import Files

FORMAT = 1
TELL_SECONDS = 60.0
"""Between log lines about the same peer."""
PEERS_MAX = 10_000
REFUSED = counter("dwd.raft.epoch_refused", "Frames and calls of another recovery epoch, refused", "{frame}")
_log = structlog.get_logger("dwd.raft")


class Verdict(Enum):
    """What to do with something said under another epoch."""

    ACCEPT = "accept"
    REFUSE_OLD = "refuse_old"
    """Its sender has to be told."""
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What the file says."""

    epoch: int = 0
    fenced_by: int = 0
    """The epoch of the cluster that went on without this node; 0: it did not."""
    order: Order | None = None
    """Written down, not carried out yet."""
    done: Order | None = None
    """The last one carried out here."""


class Epochs:
    """One a node."""

    def __init__(self, files: Files, path: Path, clock: Clock) -> None:
        """Raises Corrupt, VersionRefused."""
        self._files = files
        self._path = path
        self._clock = clock
        self._record = _load(files, path)
        self._lock = asyncio.Lock()
        self._told: dict[NodeId, float] = {}
        self._holds: Callable[[], bool] = lambda: True
        self._obey: Callable[[], Awaitable[None]] = _nobody_obeys
        self._on_fenced: Callable[[BaseException], None] = _nobody_ends

    def serve(
        self,
        *,
        holds: Callable[[], bool],
        obey: Callable[[], Awaitable[None]],
        on_fenced: Callable[[BaseException], None],
    ) -> None:
        """Before the host starts. `holds` says whether replicas live here, `obey` carries out the order this node has,
        `on_fenced` is called once when the node must end.
        """
        self._holds, self._obey, self._on_fenced = holds, obey, on_fenced

    @property
    def current(self) -> int:
        return self._record.epoch

    @property
    def order(self) -> Order | None:
        return self._record.order

    @property
    def done(self) -> Order | None:
        return self._record.done

    def require_unfenced(self) -> None:
        """Raises SafetyRefused."""
        if self._record.fenced_by:
            raise fenced(self._record.epoch, self._record.fenced_by, self._path)

    async def judge(self, peer: NodeId, epoch: int) -> Verdict:
        """Something came from `peer` under `epoch`."""
        if epoch == self._record.epoch:
            return Verdict.ACCEPT
        return await self._judge(peer, epoch)

    async def _judge(self, peer: NodeId, epoch: int) -> Verdict:
        async with self._lock:
            record = self._record
            if epoch == record.epoch:
                return Verdict.ACCEPT
            if epoch < record.epoch:
                self._tell(peer, epoch, "a node of an older recovery epoch is refused: it has to be wiped")
                return Verdict.REFUSE_OLD
            if record.order is None or record.order.epoch != epoch:
                if self._holds():
                    await self._fence(peer, epoch)
                    return Verdict.REFUSE
                await self._save(Record(epoch=epoch))
                _log.info("recovery epoch taken over", epoch=epoch_name(epoch), peer=hex_id(peer))
                return Verdict.ACCEPT
        await self._obey()
        return Verdict.ACCEPT if epoch == self._record.epoch else Verdict.REFUSE

    async def prepare(self, order: Order) -> None:
        """Write an order down. Raises Conflict when it begins at another epoch than this node's."""
        async with self._lock:
            record = self._record
            if record.epoch == order.epoch:
                return
            if record.epoch != order.plan.epoch:
                raise Conflict(
                    "recover.epoch_changed",
                    f"this node is at recovery epoch {epoch_name(record.epoch)}, the order begins at "
                    f"{epoch_name(order.plan.epoch)}",
                    hint="make a new plan: `dwctl cluster recover plan`",
                )
            await self._save(Record(epoch=record.epoch, order=order, done=record.done))

    async def commit(self, order: Order) -> None:
        """The order was carried out here: speak under its epoch from now on."""
        async with self._lock:
            if self._record.epoch < order.epoch:
                await self._save(Record(epoch=order.epoch, done=order))

    async def _fence(self, peer: NodeId, epoch: int) -> None:
        self._tell(peer, epoch, "the cluster was recovered without this node")
        if not self._record.fenced_by:
            record = self._record
            await self._save(Record(epoch=record.epoch, fenced_by=epoch, order=record.order, done=record.done))
            error = fenced(record.epoch, epoch, self._path)
            _log.critical("this node is fenced", error=error.message, hint=error.hint)
            self._on_fenced(error)

    async def _save(self, record: Record) -> None:
        content = json.dumps(_document(record), indent=1).encode() + b"\n"
        await asyncio.to_thread(self._files.write_durably, self._path, content)
        self._record = record

    def _tell(self, peer: NodeId, epoch: int, what: str) -> None:
        """Counted always, logged once a minute a peer."""
        REFUSED.add(1, peer=hex_id(peer))
        now = self._clock.monotonic()
        if now - self._told.get(peer, float("-inf")) >= TELL_SECONDS:
            if len(self._told) >= PEERS_MAX:
                self._told.clear()
            self._told[peer] = now
            own = epoch_name(self._record.epoch)
            _log.warning(what, peer=hex_id(peer), its_epoch=epoch_name(epoch), epoch=own)


def epoch_name(epoch: int) -> str:
    """The count, and the chance part in hex."""
    return f"{epoch >> EPOCH_CHANCE_BITS}.{epoch & ((1 << EPOCH_CHANCE_BITS) - 1):08x}" if epoch else "0"


def fenced(own: int, by: int, path: Path) -> SafetyRefused:
    return SafetyRefused(
        "node.fenced",
        f"the cluster lost its quorum and was recovered without this node (recovery epoch {epoch_name(by)}; the data "
        f"here is of epoch {epoch_name(own)}): what lies here may differ from what the cluster agreed on since",
        hint=f"this data must not be served again. To bring the node back: empty {path.parent} (move `devices` aside "
        "and back again to keep the fragments on them), keep node.identity_dir, and start dwd: it then gets its "
        "replicas from the cluster. To look at what was not saved, copy the directory first",
    )


async def _nobody_obeys() -> None:
    """Until the host runs there is nobody who could."""


def _nobody_ends(error: BaseException) -> None:
    """As `_nobody_obeys`; the record keeps the node from starting again."""
    del error


def _document(record: Record) -> dict[str, Any]:
    def told(order: Order | None) -> Any:
        return None if order is None else json.loads(encode_order(order))

    return {
        "format": FORMAT, "epoch": record.epoch, "fenced_by": record.fenced_by, "order": told(record.order),
        "done": told(record.done),
    }  # fmt: skip


def _load(files: Files, path: Path) -> Record:
    if not files.exists(path):
        return Record()
    try:
        document = json.loads(files.read(path))
        form = document["format"]
        if form != FORMAT:
            raise VersionRefused("raft.recovery_format", f"{path} has format {form}, this dwd reads {FORMAT}")
        orders = {
            name: decode_order(json.dumps(document[name]).encode()) if document[name] is not None else None
            for name in ("order", "done")
        }
        return Record(epoch=int(document["epoch"]), fenced_by=int(document["fenced_by"]), **orders)
    except (ValueError, KeyError, TypeError) as error:
        raise Corrupt("raft.recovery_record", f"{path} cannot be read", hint="restore it from a copy") from error
