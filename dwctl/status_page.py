"""The cluster's status as people read it: a head, reasons, and a table each for nodes, groups and devices."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from dwctl.tables import Column, Table, for_terminal, table
from dwctl.text import natural
from dwd.base.units import format_bytes

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

    from dwd.pb.admin.v1 import admin_pb2

HEALTH_COLOURS = {"healthy": "bold green", "degraded": "bold yellow", "unavailable": "bold red"}
REASONS_SHOWN_MAX = 10
GROUPS_LISTED_MAX = 12
"""More groups than this are counted by state, and on a terminal only those in trouble are listed."""
FINE = frozenset({"leader", "replicate", "unknown"})


def head(found: admin_pb2.ClusterStatusReply) -> list[str]:
    """What the whole holds and how redundant it is, after the line that names its health."""
    usage, blocks = found.usage, found.redundancy
    redundancy = (
        f"{blocks.blocks:,} blocks: {blocks.blocks_degraded:,} not fully redundant, "
        f"{blocks.blocks_at_risk:,} one loss from unreadable, {blocks.gc_pending:,} to collect"
    )
    buckets = "bucket" if usage.buckets == 1 else "buckets"
    return [f"{usage.objects:,} objects, {format_bytes(usage.bytes)} in {usage.buckets:,} {buckets}", redundancy]


def reasons(found: admin_pb2.ClusterStatusReply) -> list[str]:
    """Why it is not healthy; the first few."""
    told = list(found.reasons[:REASONS_SHOWN_MAX])
    more = len(found.reasons) - len(told)
    return [*told, f"and {more} more: dwctl cluster status --json"] if more else told


def title(found: admin_pb2.ClusterStatusReply) -> str:
    return f"cluster {found.cluster_name or found.cluster_id} is {found.health}"


def tables(found: admin_pb2.ClusterStatusReply) -> tuple[Table, Table, Table]:
    """Nodes, groups, devices. Nodes and devices by node name, so that a person finds them again."""
    names = {node.id: node.name for node in found.nodes}
    return _nodes(found), _groups(found.groups, names), _devices(found, names)


def for_people(found: admin_pb2.ClusterStatusReply, *, width: int, height: int | None = None) -> Group:
    """The page. With a `height` (a live view cannot scroll) tables that do not fit become a line each, last first."""
    from rich.console import Group
    from rich.text import Text

    lines = [Text(title(found), style=HEALTH_COLOURS.get(found.health, "yellow")), *map(Text, head(found))]
    lines += [Text(f"  - {reason}", style="yellow") for reason in reasons(found)]
    sections: list[tuple[Table, list[RenderableType]]] = [
        (made, [Text(""), for_terminal(made, width)]) for made in tables(found)
    ]
    if len(found.groups) > GROUPS_LISTED_MAX:
        sections[1] = _summary(found, width)
    used = len(lines) + sum(_lines(made) for made, _ in sections)
    for position in range(len(sections) - 1, 0, -1):
        made, _ = sections[position]
        if height is not None and used > height:
            used -= _lines(made) - 1
            count = len(found.groups) if made.title == "groups" else len(made.rows)
            sections[position] = (made, [Text(f"{count} {made.title}: {_states(found, made)}")])
    parts: list[RenderableType] = [*lines, *(part for _, drawn in sections for part in drawn)]
    return Group(*parts)


def _lines(made: Table) -> int:
    """Of the table on a terminal: an empty line, names, a rule, the rows."""
    return 3 + len(made.rows)


def _summary(found: admin_pb2.ClusterStatusReply, width: int) -> tuple[Table, list[RenderableType]]:
    """Of many groups: how many are in which state, and a row each for those in trouble."""
    from rich.text import Text

    names = {node.id: node.name for node in found.nodes}
    troubled = [group for group in found.groups if group_state(group) not in {"working", "asleep"}]
    made = _groups(troubled[:GROUPS_LISTED_MAX], names)
    more = len(troubled) - len(made.rows)
    told = f"; {more} more in trouble: dwctl raft status" if more else ""
    line = Text(f"\n{len(found.groups)} groups: {_group_counts(found)}{told}")
    return made, [line, for_terminal(made, width)] if troubled else [line]


def group_state(group: admin_pb2.GroupInfo) -> str:
    """The worst that is to be said of it, in a word or two."""
    states = {member.state for member in group.members}
    if not group.leader:
        return "without a leader"
    if group.quarantined or "quarantined" in states:
        return "with a replica in quarantine"
    if group.alarm:
        return "alarmed"
    if states - FINE:
        return "with a replica behind or gone"
    return "asleep" if group.hibernating else "working"


def _group_counts(found: admin_pb2.ClusterStatusReply) -> str:
    counts = Counter(group_state(group) for group in found.groups)
    return ", ".join(f"{count} {state}" for state, count in counts.most_common())


def _states(found: admin_pb2.ClusterStatusReply, made: Table) -> str:
    if made.title == "devices":
        states = [device.state for device in found.devices]
        counted = ", ".join(f"{states.count(state)} {state}" for state in sorted(set(states)))
        return f"{counted}, {format_bytes(sum(d.used_bytes for d in found.devices))} used"
    return _group_counts(found)


def _nodes(found: admin_pb2.ClusterStatusReply) -> Table:
    columns = (
        Column(name="node"),
        Column(name="state", is_state=True),
        Column(name="zone", rank=2),
        Column(name="s3", rank=1),
        Column(name="grpc", rank=3),
        Column(name="memory", rank=1, is_number=True),
        Column(name="loop lag", rank=2, is_number=True),
        Column(name="clock", rank=3, is_number=True),
        Column(name="log sync", rank=2, is_number=True),
        Column(name="id", rank=4, is_id=True),
    )
    rows = []
    for node in sorted(found.nodes, key=lambda n: natural(n.name)):
        here = node.state == "up"
        memory = format_bytes(node.memory_bytes) if here else "-"
        lag = f"{node.loop_lag_seconds * 1000:.0f} ms" if here else "-"
        clock = f"{node.clock_offset_seconds * 1000:+.0f} ms{' off' if node.clock_off else ''}" if here else "-"
        sync = f"{node.sync_seconds * 1000:.1f} ms{' slow' if node.disk_slow else ''}" if node.sync_seconds else "-"
        state = node.state if node.standing in {"", "active"} else f"{node.state}, {node.standing}"
        rows.append((node.name, state, node.zone or "-", node.s3, node.grpc, memory, lag, clock, sync, node.id))
    return table("nodes", columns, rows)


def _groups(groups: Iterable[admin_pb2.GroupInfo], names: Mapping[str, str]) -> Table:
    columns = (
        Column(name="group"),
        Column(name="leader", is_state=True),
        Column(name="term", is_number=True),
        Column(name="applied", rank=1, is_number=True),
        Column(name="log", rank=2, is_number=True),
        Column(name="members"),
    )
    rows = []
    for group in groups:
        members = sorted(group.members, key=lambda m: (m.role != "voter", natural(names.get(m.node, m.node))))
        told = ", ".join(_member(member, names) for member in members)
        leader = names.get(group.leader, group.leader) or "none"
        told += " [asleep]" if group.hibernating else ""
        row = (f"{group.group} {group.kind}", leader, str(group.term), str(group.applied_index))
        rows.append((*row, format_bytes(group.log_bytes), told))
    return table("groups", columns, rows)


def _member(member: admin_pb2.MemberInfo, names: Mapping[str, str]) -> str:
    remarks = [member.role] if member.role != "voter" else []
    if not (member.leader or member.state in {"leader", "replicate"}):
        remarks.append(member.state)
    name = names.get(member.node, member.node)
    return f"{name} ({', '.join(remarks)})" if remarks else name


def _devices(found: admin_pb2.ClusterStatusReply, names: Mapping[str, str]) -> Table:
    columns = (
        Column(name="node"),
        Column(name="device", rank=1, is_id=True),
        Column(name="state", is_state=True),
        Column(name="used", is_number=True),
        Column(name="free", rank=1, is_number=True),
        Column(name="fragments", rank=2, is_number=True),
        Column(name="why"),
    )
    rows = []
    for device in sorted(found.devices, key=lambda d: (natural(names.get(d.node, d.node)), d.id)):
        sizes = (format_bytes(device.used_bytes), format_bytes(device.free_bytes), f"{device.fragments:,}")
        rows.append((names.get(device.node, device.node), device.id, device.state, *sizes, device.reason or "-"))
    return table("devices", columns, rows)
