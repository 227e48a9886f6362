"""Whom a node listens to after a recovery: kept across restarts, never falling."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dwd.base.errors import Conflict, Corrupt, SafetyRefused, VersionRefused
from dwd.base.ids import NodeId
from dwd.raft.quorum_loss.epochs import Epochs, Verdict, epoch_name
from dwd.raft.quorum_loss.plan import Order, RecoveryPlan
from dwd.runtime.os_files import OsFiles
from tests.twins.manual_clock import ManualClock

PEER = NodeId(9)
LATER = (1 << 32) | 7


def order(epoch: int = LATER, start: int = 0) -> Order:
    plan = RecoveryPlan(epoch=start, nodes=(NodeId(1),), gone=(), alive=(), groups=())
    return Order(epoch=epoch, plan=plan, installations=(), ordered_by="operator/x", ordered_unix_ms=1)


class Home:
    """A node's record on disk. `holding`: replicas live there. `ended`: why it must end."""

    def __init__(self, root: Path, *, holding: bool = True) -> None:
        self.path = root / "recovery.json"
        self.holding = holding
        self.ended: list[BaseException] = []
        self.obeyed = 0

    def open(self) -> Epochs:
        made = Epochs(OsFiles(), self.path, ManualClock())

        async def obey() -> None:
            self.obeyed += 1
            if made.order is not None:
                await made.commit(made.order)

        made.serve(holds=lambda: self.holding, obey=obey, on_fenced=self.ended.append)
        return made


async def test_same_epoch_is_accepted_without_a_word(tmp_path: Path) -> None:
    home = Home(tmp_path)
    assert await home.open().judge(PEER, 0) is Verdict.ACCEPT
    assert not home.path.exists()


async def test_older_epoch_is_refused_and_its_sender_is_to_be_told(tmp_path: Path) -> None:
    epochs = Home(tmp_path).open()
    await epochs.prepare(order())
    await epochs.commit(order())
    assert epochs.current == LATER
    assert await epochs.judge(PEER, 0) is Verdict.REFUSE_OLD
    assert epochs.current == LATER


async def test_node_without_replicas_takes_a_later_epoch_over_and_keeps_it(tmp_path: Path) -> None:
    home = Home(tmp_path, holding=False)
    assert await home.open().judge(PEER, LATER) is Verdict.ACCEPT
    assert home.open().current == LATER
    assert home.ended == []


async def test_node_with_replicas_is_fenced_by_a_later_epoch_until_it_is_wiped(tmp_path: Path) -> None:
    home = Home(tmp_path)
    epochs = home.open()
    assert await epochs.judge(PEER, LATER) is Verdict.REFUSE
    assert await epochs.judge(PEER, LATER) is Verdict.REFUSE
    (error,) = home.ended
    assert isinstance(error, SafetyRefused)
    assert str(tmp_path) in error.hint
    again = home.open()
    with pytest.raises(SafetyRefused, match=r"recovered without this node"):
        again.require_unfenced()
    home.path.unlink()
    home.open().require_unfenced()


async def test_survivor_that_hears_the_new_epoch_first_carries_its_order_out(tmp_path: Path) -> None:
    home = Home(tmp_path)
    await home.open().prepare(order())
    epochs = home.open()
    assert epochs.order == order()
    assert await epochs.judge(PEER, LATER) is Verdict.ACCEPT
    assert (home.obeyed, home.ended, epochs.current, epochs.done) == (1, [], LATER, order())
    assert home.open().done == order()


async def test_another_order_s_epoch_fences_also_whoever_has_one(tmp_path: Path) -> None:
    home = Home(tmp_path)
    epochs = home.open()
    await epochs.prepare(order())
    assert await epochs.judge(PEER, LATER + 1) is Verdict.REFUSE
    assert len(home.ended) == 1


async def test_order_is_refused_when_it_begins_at_another_epoch(tmp_path: Path) -> None:
    epochs = Home(tmp_path).open()
    with pytest.raises(Conflict):
        await epochs.prepare(order(start=5))
    await epochs.prepare(order())
    await epochs.prepare(order(epoch=LATER + 1))
    assert epochs.order == order(epoch=LATER + 1), "nobody acted on the first: a newer one takes its place"


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"garbage", Corrupt), (b"{}", Corrupt), (json.dumps({"format": 2}).encode(), VersionRefused)],
)
def test_damaged_or_later_record_stops_the_start(tmp_path: Path, content: bytes, kind: type[Exception]) -> None:
    home = Home(tmp_path)
    home.path.write_bytes(content)
    with pytest.raises(kind):
        home.open()


def test_epoch_is_named_by_its_count_and_chance() -> None:
    assert (epoch_name(0), epoch_name(LATER)) == ("0", "1.00000007")
