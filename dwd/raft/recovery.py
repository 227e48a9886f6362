"""From what survived on disk to a running replica: the log and the state machine have to agree on a position.

The machine syncs lazily and the log always, so after a crash the machine is usually behind and replays. It can be
ahead, when the log lost its tail or was to be reset after an install: then the log is reset to it, also where entries
of an earlier term, which the installed state has overtaken, still stand in its place. It can never be behind the log's
first entry, unless files were lost or swapped: then the replica is broken and has to be replaced.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dwd.base.errors import Corrupt
from dwd.base.ids import LogIndex
from dwd.raft.core.configuration_codec import decode_configuration
from dwd.raft.core.types import NO_REPLICA, Configuration, Entry, EntryKind, HardState, SnapshotMeta
from dwd.raft.ports import LogWrite, RecoveredLog


def reconcile(log: RecoveredLog, machine: SnapshotMeta) -> tuple[RecoveredLog, LogWrite | None]:
    """The log as it is to be used with a machine at `machine`, and the write that makes that durable first.

    Raises Corrupt when they cannot belong together.
    """
    last = log.entries[-1].index if log.entries else log.compacted.index
    if machine.index < log.compacted.index:
        raise Corrupt(
            "raft.machine_behind",
            f"the state machine stands at {machine.index}, before the log's first entry {log.compacted.index + 1}",
            group=log.group,
        )
    if machine.index > last or machine.term > _term_at(log, machine.index):
        return _reset(log, machine)
    if machine.term < _term_at(log, machine.index):
        raise Corrupt(
            "raft.machine_diverged",
            f"log and state machine disagree about the term of index {machine.index}",
            group=log.group,
        )
    if log.hard_state.commit >= machine.index:
        return log, None
    return replace(log, hard_state=replace(log.hard_state, commit=machine.index)), None


def configurations(log: RecoveredLog, applied: LogIndex) -> list[tuple[LogIndex, Configuration]]:
    """(index, configuration) in force from that index on, from the compacted position up to `applied`."""
    changes = [e for e in log.entries if e.kind is EntryKind.CONFIGURATION and e.index <= applied]
    return [
        (log.compacted.index, log.compacted.configuration),
        *((entry.index, decode_configuration(entry.payload)) for entry in changes),
    ]


def configuration_at(known: Sequence[tuple[LogIndex, Configuration]], index: LogIndex) -> Configuration:
    """The one in force at `index`, which must not lie before the first of `known`."""
    return next(configuration for start, configuration in reversed(known) if start <= index)


def position_at(known: Sequence[tuple[LogIndex, Configuration]], entry: Entry) -> SnapshotMeta:
    """The position right after `entry`."""
    return SnapshotMeta(
        index=entry.index,
        term=entry.term,
        stamp=entry.stamp,
        configuration=configuration_at(known, entry.index),
    )


def _reset(log: RecoveredLog, machine: SnapshotMeta) -> tuple[RecoveredLog, LogWrite]:
    hard = log.hard_state
    if hard.term < machine.term:
        hard = HardState(term=machine.term, vote=NO_REPLICA, commit=machine.index)
    hard = replace(hard, commit=machine.index)
    write = LogWrite(group=log.group, replica=log.replica, hard_state=hard, reset=machine)
    return replace(log, hard_state=hard, compacted=machine, entries=()), write


def _term_at(log: RecoveredLog, index: LogIndex) -> int:
    if index == log.compacted.index:
        return log.compacted.term
    return log.entries[index - log.compacted.index - 1].term
