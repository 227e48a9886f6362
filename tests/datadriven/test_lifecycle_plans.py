"""Runs testdata/lifecycle/*.txt: what a change of the nodes would mean.

cluster nodes=N [zones=Z] [devices=D] [room=BYTES]   nodes n1..nN, zones in turn, D devices of weight 10 each
load PROFILE=BYTES...      what is stored, before it is coded
groups N [voters=1,2,3]    control and N shards, led in turn; voters as the cluster chooses, or those
down N | draining N | unplaced N | zone N Z | room N BYTES | pin G N...
held BLOCKS BYTES          what lies on the devices of the node in question
drain N | remove N | replace N M         the plan
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dwd.base.ids import CONTROL_GROUP, DeviceId, GroupId, LayoutEpoch, NodeId, ReplicaId, Stamp
from dwd.blocks.core.movement import Load
from dwd.blocks.core.placement import plan_layout
from dwd.blocks.core.profiles import parse_profile
from dwd.blocks.topology import DeviceHealth, DeviceView, layout_devices
from dwd.lifecycle.core.departure import Departure, plan_departure
from dwd.lifecycle.core.facts import Facts, GroupFacts, Space
from dwd.meta.core.control.rows import Domain, Liveness, NodeRow, NodeStanding, SettingRow
from dwd.meta.core.membership import desired
from dwd.meta.core.pins import Pin, encode_pin, setting_of
from dwd.raft.core.types import EMPTY_CONFIGURATION, Configuration, Member, MemberRole
from tests.raft_harness.scenario import parse, write
from tests.unit.node.rows import node_row, topology

FILES = sorted((Path(__file__).parent / "testdata" / "lifecycle").glob("*.txt"))
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_plan_reads_as_written_when_made(path: Path, rewrite: bool) -> None:
    text = path.read_text()
    blocks, scenario = parse(text), Scenario()
    for block in blocks:
        block.output = scenario.run(block.command)
    played = write(blocks)
    if rewrite:
        path.write_text(played)
    else:
        assert played.splitlines() == text.splitlines()


class Scenario:
    def __init__(self) -> None:
        self.rows: dict[int, NodeRow] = {}
        self.views: list[DeviceView] = []
        self.unplaced: set[int] = set()
        self.rooms: dict[DeviceId, int] = {}
        self.loads: list[Load] = []
        self.groups: list[GroupFacts] = []
        self.settings: dict[str, str] = {}
        self.held = (300, 1 << 30)

    def run(self, command: str) -> list[str]:
        name, *arguments = command.split()
        return getattr(self, f"do_{name}")(*arguments) or ["ok"]

    def do_cluster(self, *options: str) -> None:
        told = {"zones": "1", "devices": "1", "room": "100G", **dict(option.split("=") for option in options)}
        self.__init__()
        for number in range(1, int(told["nodes"]) + 1):
            zone = f"z{(number - 1) % int(told['zones']) + 1}"
            self.rows[number] = node_row(number, domain=Domain(zone=zone))
            for at in range(int(told["devices"])):
                device = DeviceId(number * 16 + at)
                self.views.append(
                    DeviceView(
                        device=device, node=NodeId(number), zone=zone, rack="", weight=10, health=DeviceHealth.UP
                    )
                )
                self.rooms[device] = size(told["room"])

    def do_load(self, *loads: str) -> None:
        for load in loads:
            name, amount = load.split("=")
            self.loads.append(Load(profile=parse_profile(name), data_bytes=size(amount)))

    def do_groups(self, shards: str, voters: str = "") -> None:
        for number in range(int(shards) + 1):
            group = GroupId(number) if number else CONTROL_GROUP
            wanted = desired(list(self.rows.values()), EMPTY_CONFIGURATION, everywhere=number == 0)
            chosen = (
                [int(v) for v in voters.partition("=")[2].split(",")] if voters else [int(n) for n in wanted.voters]
            )
            roles = dict.fromkeys(chosen, MemberRole.VOTER) | {int(n): MemberRole.LEARNER for n in wanted.learners}
            members = tuple(
                Member(node=NodeId(n), replica=ReplicaId(100 + n), role=role) for n, role in sorted(roles.items())
            )
            self.groups.append(
                GroupFacts(
                    group=group,
                    leader=NodeId(sorted(chosen)[number % len(chosen)]),
                    configuration=Configuration(members=members),
                    working=frozenset(NodeId(n) for n in chosen),
                )
            )

    def do_down(self, node: str) -> None:
        number = int(node[1:])
        self.rows[number] = replace(self.rows[number], liveness=Liveness.DOWN)
        self.views = [replace(v, health=DeviceHealth.DOWN) if v.node == number else v for v in self.views]
        self.groups = [replace(g, working=g.working - {NodeId(number)}) for g in self.groups]

    def do_draining(self, node: str) -> None:
        number = int(node[1:])
        self.rows[number] = replace(self.rows[number], standing=NodeStanding.DRAINING)
        self.views = [replace(v, writable=False) if v.node == number else v for v in self.views]

    def do_unplaced(self, node: str) -> None:
        """Just joined: in no layout yet."""
        self.unplaced.add(int(node[1:]))

    def do_zone(self, node: str, zone: str) -> None:
        number = int(node[1:])
        self.rows[number] = replace(self.rows[number], domain=Domain(zone=zone))
        self.views = [replace(v, zone=zone) if v.node == number else v for v in self.views]

    def do_room(self, node: str, room: str) -> None:
        for view in self.views:
            if view.node == int(node[1:]):
                self.rooms[view.device] = size(room)

    def do_pin(self, group: str, *nodes: str) -> None:
        number = GroupId(int(group))
        pin = Pin(group=number, roles={NodeId(int(node[1:])): MemberRole.VOTER for node in nodes})
        self.settings[setting_of(number)] = encode_pin(pin)

    def do_leaderless(self, group: str) -> None:
        self.groups = [replace(g, leader=NodeId(0)) if g.group == int(group) else g for g in self.groups]

    def do_held(self, blocks: str, amount: str) -> None:
        self.held = (int(blocks), size(amount))

    def do_drain(self, node: str) -> list[str]:
        return told(plan_departure(self.facts(), self.rows[int(node[1:])]))

    def do_remove(self, node: str) -> list[str]:
        return told(plan_departure(self.facts(), self.rows[int(node[1:])], dead=True))

    def do_replace(self, node: str, successor: str) -> list[str]:
        old, new = self.rows[int(node[1:])], self.rows[int(successor[1:])]
        return told(plan_departure(self.facts(), old, dead=old.liveness is Liveness.DOWN, successor=new))

    def facts(self) -> Facts:
        placed = [v for v in self.views if int(v.node) not in self.unplaced]
        layout = plan_layout(layout_devices([replace(v, writable=True) for v in placed]), epoch=LayoutEpoch(1))
        rows = tuple(SettingRow(name=name, value=value, changed=Stamp(1)) for name, value in self.settings.items())
        return Facts(
            topology=replace(topology(*self.rows.values()), settings=rows),
            devices=tuple(self.views),
            layout=layout,
            groups=tuple(self.groups),
            spaces={device: Space(free=room, total=2 * room) for device, room in self.rooms.items()},
            loads=tuple(self.loads),
            held_blocks=self.held[0],
            held_bytes=self.held[1],
        )


def told(plan: Departure) -> list[str]:
    found = [*plan.lines, *(f"about: {line}" for line in plan.estimates)]
    found += [f"warning: {text}" for text in plan.warnings]
    found += [f"refused: {text}" for text in (*plan.refusals, *plan.shortages)]
    return found + [f"blocked: {text}" for text in plan.blockers]


def size(text: str) -> int:
    return int(text[:-1]) * UNITS[text[-1]]
