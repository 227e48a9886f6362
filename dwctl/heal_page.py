"""Healing as people read it: how things stand, alarms, what is to do by urgency and by device, what is parked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dwctl.tables import Column, Table, for_terminal, table
from dwctl.text import natural, when
from dwd.base.units import format_bytes, format_duration

if TYPE_CHECKING:
    from rich.console import Group, RenderableType

    from dwd.pb.admin.v1 import heal_pb2

BAR_CELLS = 40
WHAT = {
    "exposed": "one loss from unreadable",
    "degraded": "short of fragments, or on loan",
    "unreadable": "not readable before devices return",
    "move": "to where the newest layout wants them",
}


def title(found: heal_pb2.HealStatusReply) -> str:
    """How it stands, in a line."""
    if not found.degraded and not found.todo_bytes:
        return "all blocks are fully redundant and where they belong"
    rate = (
        f"{format_bytes(int(found.rate_bytes))}/s, {found.rate_blocks:.1f} blocks/s" if found.rate_blocks else "at rest"
    )
    left = "" if found.eta_seconds <= 0 else f", about {format_duration(found.eta_seconds)} left"
    return f"{found.degraded} blocks degraded, {format_bytes(found.todo_bytes)} to write, {rate}{left}"


def lines(found: heal_pb2.HealStatusReply, now_ms: int) -> Iterator[str]:
    """What else holds for the whole cluster."""
    if found.exposed:
        age = format_duration(max(0, now_ms - found.oldest_exposed_ms) / 1000)
        yield f"exposed: {found.exposed}, the oldest for {age} (objective: {found.objective_minutes} min)"
    else:
        yield f"exposed: none (objective: {found.objective_minutes} min)"
    pace = "by what clients wait" if found.pace == "auto" else f"{format_bytes(int(found.pace))}/s a device"
    yield (
        f"healed since start: {found.healed_blocks} blocks, {format_bytes(found.written_bytes)} written, "
        f"{format_bytes(found.read_bytes)} read, {found.failures} failures; pace: {pace}"
    )
    if found.waiting:
        yield f"waiting for devices: {found.waiting} blocks"


def classes(found: heal_pb2.HealStatusReply) -> Table:
    columns = (
        Column(name="urgency"), Column(name="blocks", is_number=True), Column(name="to write", is_number=True), "what",
    )  # fmt: skip
    rows = [(c.name, str(c.blocks), format_bytes(c.bytes), WHAT.get(c.name, "")) for c in found.classes]
    return table("to do", columns, rows)


def devices(found: heal_pb2.HealStatusReply) -> Table:
    names = {node.id: node.name or node.id for node in found.nodes}
    columns = (
        "node",
        Column(name="device", is_id=True),
        Column(name="out", is_number=True),
        Column(name="out bytes", rank=2, is_number=True),
        Column(name="in", is_number=True),
        Column(name="in bytes", rank=2, is_number=True),
        Column(name="pace", rank=3, is_number=True),
    )
    rows = sorted(
        (
            (
                names.get(d.node, d.node), d.device, str(d.out_fragments), format_bytes(d.out_bytes),
                str(d.in_fragments), format_bytes(d.in_bytes),
                f"{format_bytes(int(d.pace_bytes))}/s" if d.pace_bytes else "-",
            )
            for d in found.devices
        ),
        key=lambda row: (natural(row[0]), row[1]),
    )  # fmt: skip
    return table("devices", columns, rows)


def nodes(found: heal_pb2.HealStatusReply) -> Table:
    columns = (
        "node",
        Column(name="state", is_state=True),
        Column(name="shards", is_number=True),
        Column(name="queued", is_number=True),
        Column(name="parked", is_number=True),
        Column(name="walks", rank=2, is_number=True),
        Column(name="rate", is_number=True),
    )
    rows = sorted(
        (
            (
                n.name or n.id, n.state, str(n.shards_led), str(n.queued), str(n.parked), str(n.walks),
                f"{format_bytes(int(n.rate_bytes))}/s",
            )
            for n in found.nodes
        ),
        key=lambda row: natural(row[0]),
    )  # fmt: skip
    return table("nodes", columns, rows)


def parked(found: heal_pb2.HealStatusReply) -> Table:
    rows = [
        (p.block, f"{p.bucket}/{p.key}", p.cause, str(p.tries), f"{p.again_seconds:.0f} s", p.reason)
        for p in found.parked
    ]
    columns = (
        Column(name="block", is_id=True), "object", "cause", Column(name="tries", is_number=True), "again in", "reason",
    )  # fmt: skip
    return table("parked", columns, rows)


def repairs(found: heal_pb2.ListRepairsReply, names: dict[str, str]) -> Table:
    columns = (
        "when",
        Column(name="state", is_state=True),
        "cause",
        Column(name="block", is_id=True),
        Column(name="object", rank=1),
        Column(name="margin", rank=4, is_number=True),
        Column(name="how", rank=2),
        Column(name="written", rank=2),
        Column(name="bytes", rank=3, is_number=True),
        Column(name="waited", rank=3, is_number=True),
        Column(name="took", rank=4, is_number=True),
        "result",
        Column(name="by", rank=5),
    )
    rows = [
        (
            when(r.at_ms), r.state, r.cause, r.block, f"{r.bucket}/{r.key}", str(r.margin),
            "decoded" if r.decoded else "copied" if r.written else "-",
            " ".join(f"{f.index}→{f.device[:8]}" for f in r.written) or "-", format_bytes(r.written_bytes),
            format_duration(r.waited_ms / 1000), format_duration(r.took_ms / 1000), r.reason, names.get(r.node, r.node),
        )
        for r in found.repairs
    ]  # fmt: skip
    return table("repairs", columns, rows)


def for_people(
    found: heal_pb2.HealStatusReply, *, now_ms: int, width: int, height: int | None = None, most_bytes: int = 0
) -> Group:
    """The page. `most_bytes`: the most there was to do while it was watched; a bar shows how much of it is done."""
    from rich.console import Group
    from rich.text import Text

    style = "bold red" if found.violated else "bold yellow" if found.degraded else "bold green"
    parts: list[RenderableType] = [Text(title(found), style=style)]
    if most_bytes:
        parts.append(Text(bar(most_bytes - found.todo_bytes, most_bytes), style="cyan"))
    parts += [Text(f"  - {alarm}", style="red") for alarm in found.alarms]
    parts += [Text(line) for line in lines(found, now_ms)]
    shown = [classes(found), nodes(found), devices(found)]
    if found.parked:
        shown.append(parked(found))
    used = len(parts)
    for made in shown:
        if height is not None and used + len(made.rows) + 3 > height:
            parts.append(Text(f"{made.title}: {len(made.rows)} rows, too many for this screen", style="dim"))
            used += 1
            continue
        parts += [Text(""), for_terminal(made, width)]
        used += len(made.rows) + 3
    return Group(*parts)


def bar(done: int, total: int) -> str:
    share = min(1.0, max(0.0, done / total)) if total else 1.0
    full = int(share * BAR_CELLS)
    return f"[{'█' * full}{'░' * (BAR_CELLS - full)}] {share:.0%}, {format_bytes(done)} of {format_bytes(total)}"
