"""Named keys, and the rotation of the cluster's keyring: what in control is sealed, and with which version.

From RotateKeyring on every box that a command brings must be of the new version: so once the old boxes are wrapped
anew none can come back, and RetireKeys, which looks again, is safe. Objects' data are below the keys of buckets and
named keys, and are never touched.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import assert_never

from dwd.base.errors import AlreadyExists, Busy, Conflict, InvalidArgument, NotFound
from dwd.base.ids import Stamp
from dwd.meta.core.control.key_commands import (
    CreateNamedKey,
    KeyCommand,
    RetireKeys,
    RewrapBoxes,
    RotateKeyring,
    SetNamedKeyState,
)
from dwd.meta.core.control.queries import BoxesAnswer, ListBoxes
from dwd.meta.core.control.rows import BoxKind, NamedKeyRow, SealedBox, SealedRing, Standing
from dwd.meta.core.control.state import Control, Part, check_blob
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.tx import At, Reader
from dwd.security.boxes import OVERHEAD_BYTES, box_version

NAMED_KEYS_MAX = 1_000
BOXES_PAGE_MAX = 1_000
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}")
_TABLES = {
    BoxKind.AUTHORITY: ("cluster", "''", "sealed_authority_key"),
    BoxKind.ACCESS_KEY: ("access_keys", "access_key", "sealed_secret"),
    BoxKind.BUCKET: ("buckets", "name", "sealed_key"),
    BoxKind.NAMED_KEY: ("named_keys", "name", "sealed_key"),
}
"""Table, name and box of each kind."""
_PARTS = {
    BoxKind.AUTHORITY: Part.TOPOLOGY,
    BoxKind.ACCESS_KEY: Part.USERS,
    BoxKind.BUCKET: Part.BUCKETS,
    BoxKind.NAMED_KEY: Part.BUCKETS,
}


def apply(control: Control, command: KeyCommand, at: At) -> Receipt:
    """Raises the DwError the command earned, before its first write."""
    match command:
        case CreateNamedKey():
            return create_named_key(control, command, at)
        case SetNamedKeyState():
            return set_named_key_state(control, command, at)
        case RotateKeyring():
            return rotate_keyring(control, command, at)
        case RewrapBoxes():
            return rewrap_boxes(control, command, at)
        case RetireKeys():
            return retire_keys(control, command, at)
        case _:
            assert_never(command)


def present_version(reader: Reader) -> int:
    """Of the keyring; 0 before the cluster is initialised."""
    row = reader.row("SELECT keyring_version FROM cluster")
    return 0 if row is None else int(row[0])


def require_present(control: Control, box: bytes) -> None:
    """Raises Busy meta.keyring_stale when the box is sealed with another version than the present one."""
    if len(box) >= OVERHEAD_BYTES:
        require_keyring(control, box_version(box))


def require_keyring(control: Control, version: int) -> None:
    """Raises Busy meta.keyring_stale; `version` 0 is not told."""
    present = present_version(control.tx)
    if version and present and version != present:
        raise Busy("meta.keyring_stale", "the keys of the cluster were rotated a moment ago", hint="try again")


def create_named_key(control: Control, command: CreateNamedKey, at: At) -> Receipt:
    if _NAME.fullmatch(command.name) is None:
        raise InvalidArgument("meta.named_key", "a key's name has 1 to 63 letters, digits, dots, dashes, underscores")
    check_blob(command.sealed_key)
    require_present(control, command.sealed_key)
    if control.tx.row("SELECT 1 FROM named_keys WHERE name = ?", (command.name,)) is not None:
        raise AlreadyExists("meta.named_key_exists", f"there is a key named {command.name}")
    count = control.tx.row("SELECT count(*) FROM named_keys") or (0,)
    if count[0] >= NAMED_KEYS_MAX:
        raise Busy("meta.named_keys", f"there may be {NAMED_KEYS_MAX} named keys")
    control.tx.run(
        "INSERT INTO named_keys VALUES (?, ?, ?, ?)", (command.name, Standing.ENABLED, at.stamp, command.sealed_key)
    )
    control.touched.add(Part.BUCKETS)
    return Receipt(index=at.index, stamp=at.stamp)


def set_named_key_state(control: Control, command: SetNamedKeyState, at: At) -> Receipt:
    control.tx.run("UPDATE named_keys SET standing = ? WHERE name = ?", (command.standing, command.name))
    if not control.tx.changed():
        raise NotFound("objects.no_such_named_key", f"there is no key named {command.name[:64]}")
    control.touched.add(Part.BUCKETS)
    return Receipt(index=at.index, stamp=at.stamp, existed=True)


def rotate_keyring(control: Control, command: RotateKeyring, at: At) -> Receipt:
    if command.version != present_version(control.tx) + 1:
        raise Conflict("meta.keyring_changed", "the keyring was rotated meanwhile")
    _seal_rings(control, command.rings)
    control.tx.run("UPDATE cluster SET keyring_version = ?", (command.version,))
    return Receipt(index=at.index, stamp=at.stamp)


def rewrap_boxes(control: Control, command: RewrapBoxes, at: At) -> Receipt:
    for change in command.boxes:
        check_blob(change.new)
        require_present(control, change.new)
    count = 0
    for change in command.boxes:
        table, name, box = _TABLES[change.kind]
        control.tx.run(
            f"UPDATE {table} SET {box} = ? WHERE {name} = ? AND {box} = ?",  # noqa: S608 - of the table above
            (change.new, change.name, change.old),
        )
        if control.tx.changed():
            count += 1
            control.touched.add(_PARTS[change.kind])
    return Receipt(index=at.index, stamp=at.stamp, count=count)


def retire_keys(control: Control, command: RetireKeys, at: At) -> Receipt:
    if command.version != present_version(control.tx):
        raise Conflict("meta.keyring_changed", "the keyring was rotated meanwhile")
    for kind in BoxKind:
        older = next((b for b in _boxes(control.tx, kind, "") if _is_older(b.box, command.version)), None)
        if older is not None:
            raise Conflict(
                "meta.keyring_in_use", f"a {kind.name.lower()} is sealed with an older key yet", name=older.name
            )
    _seal_rings(control, command.rings)
    return Receipt(index=at.index, stamp=at.stamp)


def _seal_rings(control: Control, rings: tuple[SealedRing, ...]) -> None:
    check_blob(*(ring.box for ring in rings))
    nodes = {row[0] for row in control.tx.rows("SELECT node FROM nodes")}
    if {ring.node for ring in rings} != nodes or len(rings) != len(nodes):
        raise Conflict("meta.keyring_changed", "nodes came or went meanwhile")
    control.tx.run_many("UPDATE nodes SET sealed_keyring = ? WHERE node = ?", [(r.box, r.node) for r in rings])
    control.touched.add(Part.TOPOLOGY)


def named_keys(reader: Reader) -> tuple[NamedKeyRow, ...]:
    """By name."""
    rows = reader.rows("SELECT name, standing, created, sealed_key FROM named_keys ORDER BY name")
    return tuple(
        NamedKeyRow(name=name, standing=Standing(standing), created=Stamp(created), sealed_key=box)
        for name, standing, created, box in rows
    )


def boxes(reader: Reader, query: ListBoxes) -> BoxesAnswer:
    limit = max(1, min(query.limit, BOXES_PAGE_MAX))
    found: list[SealedBox] = []
    for box in _boxes(reader, query.kind, query.after):
        if len(found) == limit:
            return BoxesAnswer(boxes=tuple(found), more=True)
        found.append(box)
    return BoxesAnswer(boxes=tuple(found), more=False)


def _boxes(reader: Reader, kind: BoxKind, after: str) -> Iterator[SealedBox]:
    table, name, box = _TABLES[kind]
    where = "" if kind is BoxKind.AUTHORITY and not after else f" WHERE {name} > ? ORDER BY {name}"
    rows = reader.rows(f"SELECT {name}, {box} FROM {table}{where}", (after,) if where else ())  # noqa: S608 - as above
    return (SealedBox(kind=kind, name=found, box=sealed) for found, sealed in rows)


def _is_older(box: bytes, version: int) -> bool:
    return len(box) >= OVERHEAD_BYTES and box_version(box) < version
