"""The Raft groups as people read them: a line of totals, what is wrong, then groups with their members as rows.

Few groups are shown whole, a block each. Many are shown as one table, a row each, and only those in trouble, or asked
for by number, as blocks: so that the page reads as well with 200 groups as with two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from dwctl.tables import Column, Table, for_terminal, table
from dwctl.text import natural
from dwd.base.units import format_bytes

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

    from dwd.pb.admin.v1 import consensus_pb2

WHOLE_GROUPS_MAX = 6
"""More groups than this are listed a row each."""
TROUBLED_MAX = 8
"""Blocks shown below such a list."""
HASH_CHARS = 10
BAR_CELLS = 20
FINE = frozenset({"leader", "replicate", "follower"})


def title(found: consensus_pb2.RaftStatusReply) -> str:
    """The totals."""
    groups = found.groups
    led = sum(1 for g in groups if g.leader)
    parts = [f"{len(groups)} group{'s' if len(groups) != 1 else ''}, {led} with a leader"]
    counted = {
        "between two configurations": sum(1 for g in groups if g.joint),
        "asleep": sum(1 for g in groups if g.hibernating),
        "pinned by an operator": sum(1 for g in groups if g.membership == "pinned"),
        "snapshots on their way": sum(1 for g in groups for _ in transfers(g)),
    }
    parts += [f"{count} {what}" for what, count in counted.items() if count]
    if found.recovery_epoch:
        parts.append(f"recovery epoch {epoch_name(found.recovery_epoch)}")
    return ", ".join(parts)


def epoch_name(epoch: int) -> str:
    """How often a lost quorum was given up, and the chance part that tells two such decisions apart."""
    return f"{epoch >> 32}.{epoch & 0xFFFFFFFF:08x}" if epoch else "0"


def reasons(found: consensus_pb2.RaftStatusReply) -> list[str]:
    """What is not as it should be. Of a node that does not answer it is said once, not for each of its replicas."""
    names = names_of(found)
    silent = {n.id for n in found.nodes if n.state != "up"}
    told = [f"node {n.name or n.id} is {n.state}" for n in found.nodes if n.state != "up"]
    for node in found.nodes:
        told += [f"node {node.name or node.id}: {trouble}" for trouble in _node_troubles(node)]
    for group in found.groups:
        if not group.leader:
            told.append(f"group {group.group} ({group.kind}) has no leader")
        told += [f"group {group.group}: {m.own.alarm}" for m in group.members if m.own.alarm]
        told += [
            f"group {group.group}: the replica on {names.get(m.node, m.node)} is {_trouble(m)}"
            for m in group.members
            if _trouble(m) and not (m.state == "unreachable" and m.node in silent)
        ]
    return told


def _node_troubles(node: consensus_pb2.RaftNode) -> Iterator[str]:
    """Why it leads nothing."""
    if node.clock_off:
        way = "ahead of" if node.clock_offset_seconds > 0 else "behind"
        yield f"its clock is {abs(node.clock_offset_seconds):.1f} s {way} that of the others; it leads no group"
    if node.disk_slow:
        yield f"its log disk is slow (p99 {node.sync_seconds * 1000:.0f} ms); it gives away what it leads"


def _trouble(member: consensus_pb2.RaftMember) -> str:
    """Empty when it does as it should."""
    if member.state == "quarantined":
        return f"quarantined: {member.own.quarantined}"
    if member.state == "failed":
        return f"failed: {member.own.failed}"
    if member.state in {"missing", "unreachable"}:
        return member.state
    if member.own.tail_doubt:
        return "in doubt about the end of its log"
    return ""


def tables(found: consensus_pb2.RaftStatusReply) -> list[Table]:
    """For pipes: the groups, the members, the transfers; every column."""
    names = names_of(found)
    made = [_list(found.groups, names), _members(found.groups, names, with_group=True), _nodes(found)]
    rows = [row for group in found.groups for row in _transfer_rows(group, names)]
    if rows:
        made.append(table("snapshots", ("group", "from", "to", "done", "total", "reused"), rows))
    return made


def _nodes(found: consensus_pb2.RaftStatusReply) -> Table:
    rows = []
    for node in sorted(found.nodes, key=lambda n: natural(n.name or n.id)):
        up = node.state == "up"
        clock = f"{node.clock_offset_seconds * 1000:+.0f} ms{' off' if node.clock_off else ''}" if up else "-"
        sync = f"{node.sync_seconds * 1000:.1f} ms{' slow' if node.disk_slow else ''}" if node.sync_seconds else "-"
        rows.append((node.name or node.id, node.state, clock, sync))
    return table("nodes", (Column(name="node"), Column(name="state", is_state=True), "clock", "log sync"), rows)


def members(found: consensus_pb2.RaftStatusReply) -> Table:
    """Of the groups found."""
    return _members(found.groups, names_of(found), with_group=False)


def for_people(
    found: consensus_pb2.RaftStatusReply, *, width: int, height: int | None = None, whole: bool = False
) -> Group:
    """The page; `whole`: every group as a block. With a `height` what does not fit is left out and said so."""
    from rich.console import Group
    from rich.text import Text

    names = names_of(found)
    wrong = reasons(found)
    parts: list[RenderableType] = [Text(title(found), style="bold red" if _unled(found) else "bold")]
    parts += [Text(f"  - {reason}", style="yellow") for reason in wrong[:TROUBLED_MAX]]
    if len(wrong) > TROUBLED_MAX:
        parts.append(Text(f"  - and {len(wrong) - TROUBLED_MAX} more: --json tells all", style="yellow"))
    blocks: Sequence[consensus_pb2.RaftGroup] = found.groups
    used = len(parts)
    if len(found.groups) > WHOLE_GROUPS_MAX and not whole:
        blocks = [g for g in found.groups if _noteworthy(g)][:TROUBLED_MAX]
        listed = _list(found.groups, names)
        room = len(listed.rows) if height is None else max(3, height - used - 4 - 6 * len(blocks))
        parts.append(for_terminal(_head(listed, room), width))
        if room < len(listed.rows):
            parts.append(Text(f"and {len(listed.rows) - room} more groups: dwctl raft status GROUP", style="dim"))
        used += min(room, len(listed.rows)) + 4
    for at, group in enumerate(blocks):
        lines = 4 + len(group.members) + sum(1 for _ in transfers(group))
        rest = 1 if at + 1 < len(blocks) else 0  # the line that says so must fit too
        if height is not None and used + lines + rest > height:
            parts.append(Text(f"and {len(blocks) - at} more groups: dwctl raft status GROUP", style="dim"))
            break
        parts += _block(group, names, width)
        used += lines
    return Group(*parts)


def names_of(found: consensus_pb2.RaftStatusReply) -> dict[str, str]:
    return {node.id: node.name or node.id for node in found.nodes}


def _unled(found: consensus_pb2.RaftStatusReply) -> bool:
    return any(not g.leader for g in found.groups)


def _noteworthy(group: consensus_pb2.RaftGroup) -> bool:
    return (
        not group.leader
        or group.joint
        or bool(group.doing)
        or any(_trouble(m) for m in group.members)
        or any(transfers(group))
    )


def _head(found: Table, rows: int) -> Table:
    return Table(title=found.title, columns=found.columns, rows=found.rows[:rows])


# -- a group as a row ----------------------------------------------------------------------------------------------


def _list(groups: Iterable[consensus_pb2.RaftGroup], names: Mapping[str, str]) -> Table:
    columns = (
        Column(name="group", is_number=True),
        Column(name="kind", rank=3),
        Column(name="leader", is_state=True),
        Column(name="term", rank=2, is_number=True),
        Column(name="commit", rank=1, is_number=True),
        Column(name="lag", is_number=True),
        Column(name="log", rank=2, is_number=True),
        Column(name="first-last", rank=4),
        Column(name="membership", rank=3),
        Column(name="version", rank=4, is_number=True),
        Column(name="hash", rank=4),
        Column(name="members"),
    )
    rows = []
    for group in groups:
        leading = _leader(group)
        behind = max((m.lag_entries for m in group.members), default=0)
        span = _span(leading.own) if leading else "-"
        row = (str(group.group), group.kind, names.get(group.leader, group.leader) or "none", str(group.term))
        log = format_bytes(leading.own.log_bytes) if leading else "-"
        told = ", ".join(_short(m, names) for m in _sorted(group.members, names))
        remarks = "".join(f" [{word}]" for word in _words(group))
        rows.append(
            (*row, str(group.commit_index), str(behind), log, span, group.membership or "auto",
             str(group.version) if group.version else "-", _hash(leading), told + remarks)
        )  # fmt: skip
    return table("groups", columns, rows)


def _leader(group: consensus_pb2.RaftGroup) -> consensus_pb2.RaftMember | None:
    return next((m for m in group.members if group.leader and m.node == group.leader), None)


def _words(group: consensus_pb2.RaftGroup) -> Iterator[str]:
    if group.joint:
        yield "joint"
    if group.hibernating:
        yield "asleep"
    if group.doing:
        yield group.doing


def _short(member: consensus_pb2.RaftMember, names: Mapping[str, str]) -> str:
    remarks = [member.role] if member.role != "voter" else []
    remarks += ["outgoing"] if member.outgoing else []
    remarks += [member.state] if member.state not in FINE else []
    name = names.get(member.node, member.node)
    return f"{name} ({', '.join(remarks)})" if remarks else name


def _sorted(members: Iterable[consensus_pb2.RaftMember], names: Mapping[str, str]) -> list[consensus_pb2.RaftMember]:
    return sorted(members, key=lambda m: (m.role == "learner", natural(names.get(m.node, m.node))))


# -- a group as a block --------------------------------------------------------------------------------------------


def _block(group: consensus_pb2.RaftGroup, names: Mapping[str, str], width: int) -> list[RenderableType]:
    from rich.padding import Padding
    from rich.text import Text

    head = Text("")
    head.append(f"group {group.group} {group.kind}", style="bold cyan")
    leader = names.get(group.leader, group.leader)
    head.append(f"  led by {leader}" if leader else "  no leader", style="green" if leader else "bold red")
    head.append(f"  term {group.term}  commit {group.commit_index:,}  members {group.membership or 'auto'}")
    if group.version:
        head.append(f"  version {group.version}")
    for word in _words(group):
        head.append(f"  {word}", style="yellow")
    parts: list[RenderableType] = [Text(""), head]
    parts.append(Padding(for_terminal(_members([group], names, with_group=False), width - 2), (0, 0, 0, 2)))
    parts += [Text(f"  {line}", style="yellow") for line in _bars(group, names)]
    return parts


def _members(groups: Iterable[consensus_pb2.RaftGroup], names: Mapping[str, str], *, with_group: bool) -> Table:
    columns = (
        *((Column(name="group", is_number=True),) if with_group else ()),
        Column(name="node"),
        Column(name="role"),
        Column(name="state", is_state=True),
        Column(name="match", rank=1, is_number=True),
        Column(name="applied", is_number=True),
        Column(name="lag", is_number=True),
        Column(name="term", rank=3, is_number=True),
        Column(name="log", rank=2, is_number=True),
        Column(name="first-last", rank=2),
        Column(name="heard", rank=3, is_number=True),
        Column(name="hash", rank=3),
        Column(name="priority", rank=5, is_number=True),
        Column(name="replica", rank=5, is_id=True),
    )
    rows = []
    for group in groups:
        for m in _sorted(group.members, names):
            row = _member_row(m, names)
            rows.append((str(group.group), *row) if with_group else row)
    return table("members", columns, rows)


def _member_row(m: consensus_pb2.RaftMember, names: Mapping[str, str]) -> tuple[str, ...]:
    told = m.HasField("own")
    own = m.own
    role = f"{m.role}, outgoing" if m.outgoing else m.role
    return (
        names.get(m.node, m.node),
        role,
        m.state,
        str(m.match_index) if m.match_index else "-",
        str(own.applied_index) if told else "-",
        str(m.lag_entries) if m.match_index else "-",
        str(own.term) if told else "-",
        format_bytes(own.log_bytes) if told else "-",
        _span(own) if told else "-",
        f"{m.last_contact_seconds:.1f} s" if 0 < m.last_contact_seconds < 1e9 else "-",
        _hash(m),
        str(m.priority),
        m.replica,
    )


def _span(own: consensus_pb2.RaftReplica) -> str:
    """The entries in the log; of an empty one only where it begins."""
    last = own.last_index if own.last_index >= own.first_index else ""
    return f"{own.first_index}-{last}"


def _hash(member: consensus_pb2.RaftMember | None) -> str:
    return (member.own.state_hash[:HASH_CHARS] if member is not None else "") or "-"


# -- transfers -----------------------------------------------------------------------------------------------------


def transfers(
    group: consensus_pb2.RaftGroup,
) -> Iterator[tuple[str, consensus_pb2.SnapshotTransfer]]:
    """(node that gets it, transfer), as the receiver tells it, else as the leader does."""
    for member in group.members:
        if member.own.HasField("snapshot"):
            yield member.node, member.own.snapshot
        elif member.HasField("snapshot"):
            yield member.node, member.snapshot


def _transfer_rows(group: consensus_pb2.RaftGroup, names: Mapping[str, str]) -> Iterator[tuple[str, ...]]:
    for node, moving in transfers(group):
        source = names.get(moving.source, moving.source) or "-"
        sizes = (str(moving.bytes_done), str(moving.bytes_total), str(moving.bytes_reused))
        yield (str(group.group), source, names.get(node, node), *sizes)


def _bars(group: consensus_pb2.RaftGroup, names: Mapping[str, str]) -> Iterator[str]:
    for node, moving in transfers(group):
        done, total = moving.bytes_done, moving.bytes_total
        filled = min(BAR_CELLS, BAR_CELLS * done // total) if total else 0
        share = f"{100 * done / total:3.0f} %" if total else "begins"
        reused = f", {format_bytes(moving.bytes_reused)} were there" if moving.bytes_reused else ""
        bar = "\u2588" * filled + "\u2591" * (BAR_CELLS - filled)
        source = names.get(moving.source, moving.source) or "leader"
        size = f" of {format_bytes(total)}" if total else ""
        yield f"snapshot {source} \u2192 {names.get(node, node)} {bar} {share}{size}{reused}"
