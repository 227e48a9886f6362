"""Laws of the state hash: it is that of the rows, whatever led to them, and nothing can change a row unseen."""

from __future__ import annotations

import hashlib
import itertools
import marshal
import struct
import tempfile
from pathlib import Path
from typing import Any

import apsw
from hypothesis import given, settings
from hypothesis import strategies as st

from dwd.base.errors import Corrupt, VersionRefused
from dwd.base.ids import LogIndex
from dwd.meta.core.apply import Checkpoint, RegisterSession
from dwd.meta.core.shard.commands import AckGc, TrimTombstones
from dwd.meta.store.row_hash import MODULUS, rows_hash
from dwd.meta.store.state_hash import LOCAL_TABLES
from tests.property.meta.test_apply_laws import commands
from tests.twins.meta_group import EPOCH_MS, Group

VALUES = st.one_of(
    st.none(), st.integers(-(1 << 63), (1 << 63) - 1), st.text(st.characters(exclude_categories=["Cs"])), st.binary()
)
SCAN_ROWS = 3


def scanned(group: Group, *, rows: int = SCAN_ROWS) -> str | None:
    """What a whole scan finds."""
    while not (step := group.machine.scan(rows)).finished:
        pass
    return step.found


def sums(group: Group) -> dict[str, int]:
    """Of what is in the file, computed without the code that keeps them."""
    connection = apsw.Connection(str(group.machine.live.path))
    try:
        names = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        found = {
            name: sum(defined(row) for row in connection.execute(f"SELECT * FROM {name}")) % MODULUS
            for name in names
            if name not in LOCAL_TABLES
        }
    finally:
        connection.close()
    return {name: total for name, total in found.items() if total}


def kept(group: Group) -> dict[str, int]:
    """The sums the machine keeps."""
    ((index, blob),) = group.sql("SELECT log_index, sums FROM state_hash")
    assert index == group.machine.position().index
    found, at = {}, 0
    while at < len(blob):
        (length,) = struct.unpack_from(">H", blob, at)
        name = blob[at + 2 : at + 2 + length].decode()
        at += 2 + length + 32
        found[name] = int.from_bytes(blob[at - 32 : at], "little")
    return found


def defined(row: tuple[Any, ...]) -> int:
    """Definition 1, spelled out."""
    pieces = [b"(" + struct.pack("<i", len(row))]
    for value in row:
        match value:
            case None:
                pieces.append(b"N")
            case int() if -(1 << 31) <= value < 1 << 31:
                pieces.append(b"i" + struct.pack("<i", value))
            case int():
                digits, left = list[int](), abs(value)
                while left:
                    digits.append(left & 0x7FFF)
                    left >>= 15
                count = len(digits) if value > 0 else -len(digits)
                pieces.append(b"l" + struct.pack("<i", count) + struct.pack(f"<{len(digits)}H", *digits))
            case str():
                encoded = value.encode()
                pieces.append(b"u" + struct.pack("<I", len(encoded)) + encoded)
            case _:
                pieces.append(b"s" + struct.pack("<I", len(value)) + value)
    return int.from_bytes(hashlib.sha256(b"".join(pieces)).digest(), "little")


@settings(deadline=None)
@given(row=st.lists(VALUES, max_size=8).map(tuple))
def test_row_hash_is_the_one_defined(row: tuple[Any, ...]) -> None:
    assert rows_hash([row]) == defined(row)
    interned = tuple(value if not isinstance(value, str) else "".join(value) for value in row)
    assert marshal.dumps(interned, 2) == marshal.dumps(row, 2), "however the interpreter keeps its strings"


@settings(max_examples=30, deadline=None)
@given(todo=st.lists(commands(), min_size=1, max_size=40), cuts=st.lists(st.integers(1, 7), min_size=1, max_size=40),
       reopen=st.booleans())  # fmt: skip
def test_kept_sums_are_those_of_the_rows_after_any_commands(todo: list[Any], cuts: list[int], reopen: bool) -> None:
    with tempfile.TemporaryDirectory() as root:
        group = Group(Path(root))
        entries = [group.entry(RegisterSession(), session=8, sequence=0)]
        entries += [
            group.entry(c, after=n + 1, session=7 + n % 2, sequence=n + 1, lowest=n) for n, c in enumerate(todo)
        ]
        sizes = itertools.cycle(cuts)
        done = 0
        while done < len(entries):
            size = next(sizes)
            group.machine.apply(entries[done : done + size])
            done += size
            if reopen:
                group.close()
                group = Group(Path(root))
            assert group.machine.scan(SCAN_ROWS).found is None
        assert kept(group) == sums(group)
        assert scanned(group) is None
        group.close()


@settings(max_examples=30, deadline=None)
@given(todo=st.lists(commands(), min_size=1, max_size=30), cuts=st.lists(st.integers(1, 7), min_size=1, max_size=30),
       at=st.integers(0, 29))  # fmt: skip
def test_checkpoint_is_the_same_however_entries_were_cut_into_batches(
    todo: list[Any], cuts: list[int], at: int
) -> None:
    with tempfile.TemporaryDirectory() as root:
        one, many = Group(Path(root) / "one"), Group(Path(root) / "many")
        todo.insert(min(at, len(todo)), Checkpoint(definition=1))
        entries = [one.entry(c, after=n, sequence=n + 1, lowest=n) for n, c in enumerate(todo)]
        one.machine.apply(entries)
        sizes = itertools.cycle(cuts)
        done = 0
        while done < len(entries):
            size = next(sizes)
            many.machine.apply(entries[done : done + size])
            done += size
        recorded = one.machine.state_hash()
        assert recorded is not None
        assert recorded.index == entries[min(at, len(todo) - 1)].index
        assert many.machine.state_hash() == recorded
        assert many.machine.state_hash(LogIndex(recorded.index)) == recorded
        one.close()
        many.close()


@settings(max_examples=40, deadline=None)
@given(todo=st.lists(commands(), min_size=4, max_size=30), data=st.data())
def test_any_flipped_row_of_any_table_is_found(todo: list[Any], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as root:
        group = Group(Path(root))
        entries = [group.entry(c, after=n, sequence=n + 1, lowest=n) for n, c in enumerate(todo)]
        group.machine.apply(entries)
        group.machine.checkpoint()
        path = group.machine.live.path
        group.close()
        flip(path, data)
        try:
            group = Group(Path(root))
        except (Corrupt, VersionRefused):
            return  # where it stands, or in which version, is seen to be wrong at once
        assert scanned(group, rows=data.draw(st.integers(1, 5))) is not None
        assert scanned(group) is not None, "as often as one looks"
        group.close()


def flip(path: Path, data: st.DataObject) -> None:
    """Change one value of one row, or lose the row."""
    connection = apsw.Connection(str(path))
    tables = []
    for (name,) in list(connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")):
        if name in {"state_hash", "checkpoints"}:
            continue
        (count,) = next(connection.execute(f"SELECT count(*) FROM {name}"))
        if count:
            tables.append((name, count))
    name, count = data.draw(st.sampled_from(tables))
    columns = list(connection.execute("SELECT name, type, pk FROM pragma_table_info(?)", (name,)))
    keys = [column for column, _, pk in columns if pk]
    row = data.draw(st.integers(0, count - 1))
    names = ", ".join(keys)
    picked = next(connection.execute(f"SELECT {names} FROM {name} ORDER BY {names} LIMIT 1 OFFSET ?", (row,)))
    where = " AND ".join(f"{key} = ?" for key in keys)
    loose = [(column, kind) for column, kind, pk in columns if not pk and column not in {"cluster", "group_id"}]
    if name != "position" and (not loose or data.draw(st.booleans())):
        connection.execute(f"DELETE FROM {name} WHERE {where}", picked)
    else:
        usable = [c for c in loose if c[0] != "configuration"]
        column, kind = data.draw(st.sampled_from(usable))
        change = {"INTEGER": f"coalesce({column}, 0) + 1", "TEXT": f"{column} || 'x'"}.get(
            kind, f"CAST(coalesce({column}, x'') || x'01' AS BLOB)"
        )
        if name == "position" and column == "log_index":
            change = f"{column} - 1"
        if name == "sessions" and column == "results":
            change = f"CAST({column} || x'00' AS BLOB)"
        connection.execute(f"UPDATE {name} SET {column} = {change} WHERE {where}", picked)
    connection.close()


def test_hash_goes_with_a_snapshot_when_one_is_installed(tmp_path: Path) -> None:
    source, target = Group(tmp_path / "source"), Group(tmp_path / "target")
    for number in range(5):
        source.send(AckGc(blocks=()))
        source.send(TrimTombstones(before=EPOCH_MS + number, limit=1))
    source.send(Checkpoint(definition=1))
    meta = source.machine.copy_snapshot(tmp_path / "copy")
    target.machine.install_snapshot(tmp_path / "copy", meta)
    assert target.machine.state_hash() == source.machine.state_hash()
    assert kept(target) == kept(source) == sums(target)
    assert scanned(target) is None
    source.close()
    target.close()
