"""A command of a session takes effect at most once, however often it stands in the log (thesis 6.3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dwd.base.ids import GroupId, NodeId
from dwd.meta.codec import decode_envelope
from dwd.meta.core.apply import RegisterSession
from dwd.meta.core.receipt import Receipt
from dwd.raft.core.types import Entry, EntryKind
from tests.sim.watching import Checker, Watch


class ExactlyOnce(Checker):
    name = "exactly once"

    def __init__(self, watch: Watch) -> None:
        super().__init__(watch)
        self._seen: set[tuple[GroupId, int]] = set()
        self._effects: dict[tuple[GroupId, int, int], int] = {}

    def applied(self, node: NodeId, group: GroupId, entries: Sequence[Entry], results: Sequence[Any]) -> None:
        for entry, result in zip(entries, results, strict=True):
            if entry.kind is not EntryKind.COMMAND or (group, entry.index) in self._seen:
                continue
            self._seen.add((group, entry.index))
            envelope = decode_envelope(entry.payload)
            if not isinstance(result, Receipt) or isinstance(envelope.command, RegisterSession):
                continue
            place = (group, envelope.session, envelope.sequence)
            first = self._effects.setdefault(place, result.index)
            if first != result.index:
                self.report(
                    f"group {group}: {type(envelope.command).__name__} {envelope.sequence} of session"
                    f" {envelope.session:x} took effect at {first} and at {result.index}"
                )
