"""What a node tells control of itself, and when the leader of control plans a layout."""

from __future__ import annotations

from typing import Any

import pytest

from dwd.base.errors import Conflict
from dwd.base.ids import CONTROL_GROUP, DeviceId, GroupId, NodeId
from dwd.meta.core.control.commands import AddDevice, SetDeviceState, UpdateNode
from dwd.meta.core.control.queries import Topology
from dwd.meta.core.control.rows import DeviceState, Domain, NodeAddresses
from dwd.meta.core.versions import NEWEST
from dwd.node.announce import AnnounceWorker, LocalDevice, weight_of
from dwd.runtime.clock import SystemClock
from tests.unit.node.rows import device_row, node_row, topology

HERE = NodeId(1)


class Control:
    """Stands for the metadata client: what control knows, and what was proposed to it."""

    def __init__(self, known: Topology, *, leads: bool = True) -> None:
        self.known, self.leading = known, leads
        self.proposed: list[Any] = []
        self.refusal: Exception | None = None
        self.believed: list[DeviceId] = []

    @property
    def view(self) -> Control:
        return self

    def topology(self) -> Topology:
        return self.known

    def leads(self, group: GroupId) -> bool:
        return self.leading and group == CONTROL_GROUP

    async def control(self, command: Any, *, deadline: float) -> None:
        assert deadline > SystemClock().monotonic()
        if self.refusal is not None:
            raise self.refusal
        self.proposed.append(command)


def announcer(control: Control, *devices: LocalDevice) -> AnnounceWorker:
    meta: Any = control
    row = node_row(1)
    return AnnounceWorker(
        node=HERE, meta=meta, clock=SystemClock(), addresses=row.addresses, domain=row.domain, devices=lambda: devices,
        believe=control.believed.append,
    )  # fmt: skip


def local(number: int = 1, *, given_up: tuple[int, ...] = (), **changes: Any) -> LocalDevice:
    facts: dict[str, Any] = {"weight": 10, "capacity_bytes": 1 << 30, "failed": ""}
    return LocalDevice(
        device=DeviceId(number), given_up=tuple(DeviceId(lost) for lost in given_up), **{**facts, **changes}
    )


async def told(control: Control, *devices: LocalDevice) -> list[Any]:
    await announcer(control, *devices).work()
    return control.proposed


async def test_nothing_is_said_when_control_knows_it_all() -> None:
    assert await told(Control(topology(node_row(1), devices=(device_row(1),))), local()) == []


async def test_nothing_is_said_before_control_knows_this_node() -> None:
    assert await told(Control(topology(node_row(2))), local()) == []


@pytest.mark.parametrize(
    "stale",
    [
        {"addresses": NodeAddresses(grpc="old:1", s3="", admin="")},
        {"domain": Domain(zone="old")},
        {"version_newest": NEWEST + 1},
    ],
)
async def test_new_addresses_domains_and_versions_are_told(stale: dict[str, Any]) -> None:
    (command,) = await told(Control(topology(node_row(1, **stale))))
    row = node_row(1)
    assert command == UpdateNode(node=HERE, addresses=row.addresses, domain=row.domain, version_newest=NEWEST)


async def test_new_device_is_added_unless_it_is_broken() -> None:
    control = Control(topology(node_row(1)))
    (command,) = await told(control, local(3), local(4, failed="dead"))
    assert command == AddDevice(device=DeviceId(3), node=HERE, weight=10, capacity_bytes=1 << 30)


@pytest.mark.parametrize("changed", [{"weight": 20}, {"zone": "z2"}, {"rack": "r2"}])
async def test_what_the_settings_say_anew_of_a_device_is_told_when_it_works(changed: dict[str, Any]) -> None:
    known = topology(node_row(1), devices=(device_row(1),))
    facts = {"weight": 10, "capacity_bytes": 1 << 30, **changed}
    assert await told(Control(known), local(**changed)) == [AddDevice(device=DeviceId(1), node=HERE, **facts)]
    (command,) = await told(Control(known), local(**changed, failed="dead"))
    assert isinstance(command, SetDeviceState)


@pytest.mark.parametrize(
    ("state", "local_state", "expected"),
    [
        (DeviceState.ACTIVE, {"failed": "broken"}, DeviceState.FAILED),
        (DeviceState.ACTIVE, {"read_only": "remounted"}, DeviceState.READ_ONLY),
        (DeviceState.READ_ONLY, {"read_only": "remounted", "failed": "broken"}, DeviceState.FAILED),
        (DeviceState.READ_ONLY, {"read_only": "remounted"}, None),
        (DeviceState.READ_ONLY, {}, DeviceState.ACTIVE),
        (DeviceState.FAILED, {}, DeviceState.ACTIVE),
        (DeviceState.FAILED, {"failed": "broken"}, None),
        (DeviceState.DRAINING, {}, None),
        (DeviceState.DRAINING, {"failed": "broken"}, DeviceState.FAILED),
        (DeviceState.LOST, {}, None),
        (DeviceState.RETIRED, {}, None),
    ],
)
async def test_state_follows_the_device_until_it_was_given_up(
    state: DeviceState, local_state: dict[str, str], expected: DeviceState | None
) -> None:
    proposed = await told(Control(topology(node_row(1), devices=(device_row(1, state=state),))), local(**local_state))
    reason = local_state.get("failed") or local_state.get("read_only") or ""
    wanted = [] if expected is None else [SetDeviceState(device=DeviceId(1), state=expected, reason=reason)]
    assert proposed == wanted


@pytest.mark.parametrize("state", [DeviceState.ACTIVE, DeviceState.FAILED])
async def test_suspect_device_goes_out_and_comes_in_so_that_it_is_recounted(state: DeviceState) -> None:
    control = Control(topology(node_row(1), devices=(device_row(1, state=state),)))
    proposed = await told(control, local(suspect="an older copy"))
    states = [command.state for command in proposed]
    assert states == [DeviceState.FAILED, DeviceState.ACTIVE][state is DeviceState.FAILED :]
    assert control.believed == [1]


async def test_suspect_device_stays_suspect_while_it_is_broken_or_control_does_not_answer() -> None:
    control = Control(topology(node_row(1), devices=(device_row(1),)))
    await told(control, local(suspect="an older copy", failed="broken"))
    assert control.believed == []
    control.refusal = Conflict("meta.busy", "not now")
    with pytest.raises(Conflict):
        await told(control, local(suspect="an older copy"))
    assert control.believed == []


async def test_device_whose_data_is_gone_is_declared_lost_once() -> None:
    rows = (device_row(1), device_row(2, node=HERE), device_row(3, state=DeviceState.LOST))
    (command,) = await told(Control(topology(node_row(1), devices=rows)), local(1, given_up=(2, 3, 99)))
    assert (command.device, command.state) == (2, DeviceState.LOST)


def test_weight_is_gib_times_share_and_zero_only_by_wish() -> None:
    gib = 1 << 30
    assert [weight_of(100 * gib, 1.0), weight_of(100 * gib, 0.5), weight_of(gib // 10, 1.0)] == [100, 50, 1]
    assert weight_of(100 * gib, 0.0) == 0
