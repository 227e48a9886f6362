"""What the jobs of nodes do when somebody else acts at the same time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dwd.base.errors import Conflict, Unavailable
from dwd.base.ids import DeviceId, LayoutEpoch, NodeId
from dwd.blocks.core.layout import LayoutDevice
from dwd.blocks.core.placement import plan_layout
from dwd.lifecycle.moving import Mover

LAYOUT = plan_layout(
    [LayoutDevice(device=DeviceId(1), node=NodeId(1), weight=1)], epoch=LayoutEpoch(2), partitions=16, width=1
)  # fmt: skip


@pytest.mark.parametrize(
    ("code", "raised"), [("meta.layout_epoch", Unavailable), ("meta.job_fenced", Conflict)]
)  # fmt: skip
async def test_step_is_tried_again_when_another_layout_was_applied_meanwhile(
    code: str, raised: type[Exception]
) -> None:
    """That layout may name the node: going on as if it did not would wait for ever."""

    async def control(_command: object) -> None:
        raise Conflict(code, "not so")

    survey: Any = SimpleNamespace(clock=None)
    job: Any = SimpleNamespace(control=control)
    with pytest.raises(raised):
        await Mover(survey)._apply(job, LAYOUT)
