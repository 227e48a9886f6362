"""What jobs of nodes are told, and what their steps work from."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass

from dwd.base.errors import Conflict, InvalidArgument, SafetyRefused
from dwd.base.ids import NodeId, hex_id, job_name, parse_hex_id
from dwd.jobs.kinds import JobPlan
from dwd.lifecycle.core.departure import Departure
from dwd.lifecycle.core.facts import node_named
from dwd.meta.core.control.job_rows import JobRow, arguments_of
from dwd.meta.core.control.queries import Topology
from dwd.meta.core.control.rows import NodeRow

NODE, SUCCESSOR = "node", "successor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """Of a plan; ids in hex. `dead`: what the node holds is given up and rebuilt."""

    node: str
    name: str
    successor: str = ""
    dead: bool = False
    forced: bool = False

    @property
    def node_id(self) -> NodeId:
        return NodeId(parse_hex_id(self.node))

    @property
    def successor_id(self) -> NodeId | None:
        return NodeId(parse_hex_id(self.successor)) if self.successor else None


def details_of(plan: JobPlan) -> Details:
    return Details(**json.loads(plan.details))


def encode_details(details: Details) -> bytes:
    return json.dumps(asdict(details), sort_keys=True, separators=(",", ":")).encode()


def node_of(topology: Topology, arguments: Mapping[str, str], name: str = NODE) -> NodeRow:
    """Raises InvalidArgument, NotFound."""
    wanted = arguments.get(name, "")
    if not wanted:
        raise InvalidArgument("node.not_named", f"say which node: argument {name!r}")
    return node_named(topology, wanted)


def require_alone(jobs: Collection[JobRow], node: NodeRow, *, kind: str, arguments: Mapping[str, str]) -> None:
    """Raises Conflict while another job is about the same node; asked for once more, the same one is no other."""
    for job in jobs:
        if not job.kind.startswith("node.") or (job.kind, job.arguments) == (kind, arguments_of(arguments)):
            continue
        named = {argument.value for argument in job.arguments}
        if {node.name, hex_id(node.node)} & named:
            raise Conflict(
                "node.job_under_way",
                f"{job.kind} of {node.name} is under way: job {job_name(job.job)}",
                hint=f"`dwctl job watch {job_name(job.job)}`, or cancel it first",
            )


def judged(departure: Departure, *, force: bool) -> tuple[str, ...]:
    """The plan's warnings. Raises SafetyRefused."""
    if departure.blockers:
        raise SafetyRefused("node.cannot_leave", "; ".join(departure.blockers))
    against = (*departure.refusals, *departure.shortages)
    if against and not force:
        raise SafetyRefused("node.unsafe", "; ".join(against), hint="add nodes or devices first, or override: --force")
    short = ("forced: devices have too little room for what would come to them",) if departure.shortages else ()
    return (*departure.warnings, *(f"forced: {text}" for text in departure.refusals), *short)
