"""Scenarios as text: a command, its arguments, `----`, and what came of it.

    group voters=1,2,3 [learners=4] [witnesses=5] [priority=1:5] [OPTION=N]   a fresh group; options of NodeOptions
    tick R [N]                 let time pass at R
    rounds R N                 tick R and deliver everything, N times; shows only R's status
    hinder R                   R cannot write for now; tell it at a tick
    bar R | allow R            R must not stand or lead (its clock is wrong, its state in quarantine), or may again
    clock SECONDS              move everybody's clock, without a tick
    campaign R                 tick R until it stands
    lead R                     all others run out of patience, R stands, all is delivered; shows only R's status
    impatient R...             the others have heard of no leader for a while (no more stickiness)
    propose R TEXT...          one command a word
    change R KIND REPLICA [NODE] [priority=N]    add-learner, add-witness, promote, demote, remove, replace-lost, ...
    joint R KIND:REPLICA...    several at once
    transfer R TARGET          hand leadership over
    read R ID                  ask for a read index at R
    deliver [A->B] [KIND] [N]  messages that match, oldest first (all there are now, or N)
    drop [A->B] [KIND]         lose them
    repeat [A->B] [KIND]       keep them, and deliver a copy
    persist R [N]              make R's queued writes durable (only with `writes manual`)
    writes manual|auto         auto: durable as soon as taken
    cut A->B | heal            one-way
    stabilize                  deliver and persist until nothing is left
    crash R [torn] [lose=N]    lose what is not durable; torn: a bad last batch was cut, with the last N entries
    start R [witness]          start it again, or a new replica with an empty disk
    compact R                  checkpoint and cut the log of R
    fetch R [fail]             the snapshot that R was offered is here
    broken R PEER              report_unreachable
    trust R                    the operator trusts the tail of R
    status [R...]              who is what; log R: its log

Written anew by `pytest tests/datadriven --rewrite` (or DWD_REWRITE=1), then reviewed as a diff.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from dwd.base.errors import DwError
from dwd.base.ids import NodeId, ReplicaId
from dwd.raft.core.effects import Effects
from dwd.raft.core.messages import Message
from dwd.raft.core.options import NodeOptions
from dwd.raft.core.types import (
    EMPTY_SNAPSHOT,
    ChangeKind,
    Configuration,
    ConfigurationChange,
    JointChange,
    Member,
    MemberRole,
    ProposalId,
    ReadId,
    Role,
)
from tests.raft_harness import render
from tests.raft_harness.replica import Disk, Machine, Shell
from tests.raft_harness.seeded import SeededRng

STEPS_MAX = 2000


@dataclass(slots=True)
class Block:
    """A run of comment and blank lines, or a command with its output."""

    lead: list[str]
    command: str
    output: list[str]


def parse(text: str) -> list[Block]:
    blocks: list[Block] = []
    lead: list[str] = []
    lines = iter(text.splitlines())
    for line in lines:
        if not line.strip() or line.startswith("#"):
            lead.append(line)
            continue
        assert next(lines) == "----", f"no ---- after: {line}"
        blocks.append(Block(lead, line, list(_until_blank(lines))))
        lead = [""]
    return blocks


def _until_blank(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if not line.strip():
            return
        yield line


def write(blocks: list[Block]) -> str:
    lines: list[str] = []
    for block in blocks:
        lines += [*block.lead, block.command, "----", *block.output]
    return "\n".join(lines) + "\n"


class Scenario:
    def __init__(self) -> None:
        self.options = NodeOptions(election_ticks_min=5, election_ticks_max=5, heartbeat_ticks=1)
        self.shells: dict[ReplicaId, Shell] = {}
        self.disks: dict[ReplicaId, Disk] = {}
        self.network: deque[Message] = deque()
        self.cut: set[tuple[int, int]] = set()
        self.manual = False
        self.proposals = 0
        self.seconds = 0.0
        self.output: list[str] = []

    def monotonic(self) -> float:
        return self.seconds

    def unix_ms(self) -> int:
        return 1

    def run(self, command: str) -> list[str]:
        self.output = []
        name, *arguments = command.split()
        getattr(self, f"do_{name}")(*arguments)
        self.settle()
        return self.output or ["ok"]

    def shell(self, replica: str) -> Shell:
        return self.shells[ReplicaId(int(replica))]

    def send(self, message: Message) -> None:
        if (message.source, message.target) not in self.cut:
            self.network.append(message)

    def observe(self, shell: Shell, effects: Effects) -> None:
        self.output += render.effects(shell.replica, effects)

    def settle(self) -> None:
        """Take effects everywhere; with automatic writes, make them durable and apply."""
        busy = True
        while busy:
            busy = False
            for replica in sorted(self.shells):
                shell = self.shells[replica]
                shell.take()
                while not self.manual and shell.persist():
                    busy = True
                    shell.apply()
                    shell.take()

    def matching(self, arguments: tuple[str, ...]) -> list[Message]:
        count = next((int(a) for a in arguments if a.isdigit()), len(self.network))
        edges = [a.split("->") for a in arguments if "->" in a]
        kinds = {a.lower() for a in arguments if a.isalpha()}
        return [
            m
            for m in self.network
            if (not edges or any(e == [str(m.source), str(m.target)] for e in edges))
            and (not kinds or type(m).__name__.lower() in kinds)
        ][:count]

    # Commands.

    def do_group(self, *arguments: str) -> None:
        given = dict(argument.split("=") for argument in arguments)
        priority = dict(p.split(":") for p in given.pop("priority", "").split(",") if p)
        roles = {
            MemberRole.VOTER: given.pop("voters"),
            MemberRole.LEARNER: given.pop("learners", ""),
            MemberRole.WITNESS: given.pop("witnesses", ""),
        }
        extra: dict[str, Any] = {key: int(value) for key, value in given.items()}
        self.options = replace(self.options, **extra)
        members = [
            Member(node=NodeId(int(i)), replica=ReplicaId(int(i)), role=role, priority=int(priority.get(i, 1)))
            for role, ids in roles.items()
            for i in ids.split(",")
            if i
        ]
        members.sort(key=lambda m: m.replica)
        genesis = replace(EMPTY_SNAPSHOT, configuration=Configuration(members=tuple(members)))
        for member in members:
            witness = member.role is MemberRole.WITNESS
            self.disks[member.replica] = Disk(base=genesis, machine=Machine(position=genesis), witness=witness)
            self.do_start(str(member.replica))

    def do_start(self, replica: str, role: str = "") -> None:
        key = ReplicaId(int(replica))
        fresh = Disk(base=EMPTY_SNAPSHOT, machine=Machine(position=EMPTY_SNAPSHOT), witness=role == "witness")
        disk = self.disks.setdefault(key, fresh)
        self.shells[key] = Shell(key, disk, self.options, SeededRng(key), self.send, self.observe, self)

    def do_tick(self, replica: str, count: str = "1") -> None:
        for _ in range(int(count)):
            self.shell(replica).node.tick()
            self.settle()

    def do_hinder(self, replica: str) -> None:
        self.shell(replica).node.tick(hindered=True)

    def do_bar(self, replica: str) -> None:
        self.shell(replica).node.allow_leading(allowed=False)

    def do_allow(self, replica: str) -> None:
        self.shell(replica).node.allow_leading(allowed=True)

    def do_rounds(self, replica: str, count: str) -> None:
        for _ in range(int(count)):
            self.do_tick(replica)
            self.do_stabilize()
        self.output = []
        self.do_status(replica)

    def do_clock(self, seconds: str) -> None:
        self.seconds += float(seconds)

    def do_campaign(self, replica: str) -> None:
        shell = self.shell(replica)
        for _ in range(STEPS_MAX):
            shell.node.tick()
            if shell.node.status().role is not Role.FOLLOWER and shell.node._state.timers.election == 0:
                return
        self.output.append("never stands")

    def do_impatient(self, *replicas: str) -> None:
        for replica in replicas:
            self.shell(replica).node._state.timers.election = self.options.election_ticks_min

    def do_lead(self, replica: str) -> None:
        self.do_impatient(*(str(r) for r in self.shells if str(r) != replica))
        self.do_campaign(replica)
        self.do_stabilize()
        self.output = []
        self.do_status(replica)

    def do_propose(self, replica: str, *words: str) -> None:
        items = []
        for word in words:
            self.proposals += 1
            items.append((ProposalId(self.proposals), word.encode()))
        self.shell(replica).node.propose(items, unix_ms=1)

    def do_change(self, replica: str, kind: str, member: str, *more: str) -> None:
        self.proposals += 1
        change = make_change(kind, member, *more)
        self.shell(replica).node.propose_configuration(ProposalId(self.proposals), change, unix_ms=1)

    def do_joint(self, replica: str, *changes: str) -> None:
        self.proposals += 1
        change = JointChange(changes=tuple(make_change(*text.split(":")) for text in changes))
        self.shell(replica).node.propose_configuration(ProposalId(self.proposals), change, unix_ms=1)

    def do_transfer(self, replica: str, target: str) -> None:
        try:
            self.shell(replica).node.transfer_leadership(ReplicaId(int(target)))
        except DwError as error:
            self.output.append(f"{replica} transfer refused: {error.code}")

    def do_read(self, replica: str, read: str) -> None:
        self.shell(replica).node.read_index(ReadId(int(read)))

    def do_deliver(self, *arguments: str) -> None:
        for message in self.matching(arguments):
            self.network.remove(message)
            self.hand_over(message)

    def hand_over(self, message: Message) -> None:
        self.output.append(f"{render.message(message)}")
        shell = self.shells.get(message.target)
        if shell is not None:
            shell.node.step(message)
            self.settle()

    def do_drop(self, *arguments: str) -> None:
        for message in self.matching(arguments):
            self.network.remove(message)
            self.output.append(f"lost {render.message(message)}")

    def do_repeat(self, *arguments: str) -> None:
        for message in self.matching(arguments):
            self.hand_over(message)

    def do_persist(self, replica: str, count: str = "1000") -> None:
        shell = self.shell(replica)
        for _ in range(int(count)):
            if not shell.persist():
                return
            shell.apply()
            shell.take()

    def do_writes(self, mode: str) -> None:
        self.manual = mode == "manual"

    def do_cut(self, *edges: str) -> None:
        for edge in edges:
            one, other = edge.split("->")
            self.cut.add((int(one), int(other)))
        self.network = deque(m for m in self.network if (m.source, m.target) not in self.cut)

    def do_heal(self) -> None:
        self.cut = set()

    def do_stabilize(self) -> None:
        self.settle()
        for _ in range(STEPS_MAX):
            if not self.network:
                return
            self.hand_over(self.network.popleft())
        self.output.append("never settles")

    def do_crash(self, replica: str, *arguments: str) -> None:
        shell = self.shells.pop(ReplicaId(int(replica)))
        disk = shell.disk
        lost = sum(int(a.split("=")[1]) for a in arguments if a.startswith("lose="))
        if lost:
            del disk.entries[-lost:]
        disk.doubt = disk.doubt or "torn" in arguments

    def do_compact(self, replica: str) -> None:
        self.shell(replica).checkpoint(compact=True)

    def do_fetch(self, replica: str, outcome: str = "ok") -> None:
        shell = self.shell(replica)
        source = self.shells.get(shell.offer.source) if shell.offer is not None and outcome == "ok" else None
        shell.fetch_offer(source)

    def do_broken(self, replica: str, peer: str) -> None:
        self.shell(replica).node.report_unreachable(ReplicaId(int(peer)))

    def do_status(self, *replicas: str) -> None:
        for replica in sorted(int(r) for r in replicas) or sorted(self.shells):
            status = self.shells[ReplicaId(replica)].node.status()
            members = render.configuration(status.configuration)
            peers = " ".join(f"{p.replica}:{p.state.value}({p.match},{p.next})" for p in status.peers)
            self.output.append(
                f"{replica} {status.role.name.lower()} term={status.term} leader={status.leader} "
                f"commit={status.commit} applied={status.applied} last={status.last} {members}"
                + (" doubtful" if status.tail_doubt else "")
                + (f" held={status.held}" if status.witness else "")
                + (f" transferring={status.transferring}" if status.transferring else "")
                + (f" {peers}" if peers else "")
            )

    def do_log(self, replica: str) -> None:
        disk = self.disks[ReplicaId(int(replica))]
        self.output.append(f"after {disk.base.index}@{disk.base.term}: {render.entries(tuple(disk.entries))}")


def make_change(kind: str, member: str, *more: str) -> ConfigurationChange:
    """`more` may be the node, if it is not numbered as the replica, and priority=N."""
    priority = next((int(word.removeprefix("priority=")) for word in more if word.startswith("priority=")), 1)
    node = next((int(word) for word in more if word.isdigit()), int(member))
    return ConfigurationChange(
        kind=ChangeKind[kind.upper().replace("-", "_")],
        member=Member(
            node=NodeId(node), replica=ReplicaId(int(member)), role=MemberRole.LEARNER, priority=priority
        ),
    )  # fmt: skip
