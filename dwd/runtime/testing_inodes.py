"""What a file system that may lose power is made of: contents and names, seen and durable, and the changes between."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dwd.base.clock import Rng

SECTOR_BYTES = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    offset: int
    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Resize:
    length: int


@dataclass(slots=True, kw_only=True, eq=False)
class Inode:
    """`seen` is what reads return, `durable` what the device holds, `unsynced` the changes between them."""

    seen: bytearray = field(default_factory=bytearray)
    durable: bytearray = field(default_factory=bytearray)
    unsynced: list[Write | Resize] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class NameChange:
    """One atomic change of names: `links` appear, `unlinks` go."""

    directories: frozenset[Path]
    links: tuple[tuple[Path, Inode], ...] = ()
    unlinks: tuple[Path, ...] = ()


def apply_names(names: dict[Path, Inode], change: NameChange) -> None:
    for path in change.unlinks:
        _ = names.pop(path, None)
    names.update(change.links)


def apply_content(content: bytearray, change: Write | Resize) -> None:
    match change:
        case Write():
            if change.offset > len(content):
                content.extend(bytes(change.offset - len(content)))
            content[change.offset : change.offset + len(change.content)] = change.content
        case Resize():
            if change.length < len(content):
                del content[change.length :]
            else:
                content.extend(bytes(change.length - len(content)))


def after_power_loss(inode: Inode, rng: Rng) -> bytearray:
    """The durable content, plus by one of four moods none, all, a prefix or any sectors of the unsynced changes."""
    content = bytearray(inode.durable)
    mood = rng.below(4)
    pieces = [piece for change in inode.unsynced for piece in sectors(change)]
    if mood == 0:
        return content
    if mood == 2:
        pieces = pieces[: rng.below(len(pieces) + 1)]
    for piece in pieces:
        if mood != 3 or rng.below(2):
            apply_content(content, piece)
    return content


def sectors(change: Write | Resize) -> Sequence[Write | Resize]:
    if isinstance(change, Resize):
        return [change]
    pieces: list[Write] = []
    start = 0
    while start < len(change.content):
        end = min(len(change.content), start + SECTOR_BYTES - (change.offset + start) % SECTOR_BYTES)
        pieces.append(Write(offset=change.offset + start, content=change.content[start:end]))
        start = end
    return pieces
