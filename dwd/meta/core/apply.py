"""The apply engine: one batch of decoded commands after another on one group's database.

Invariants:
* what an entry does depends on the entry and the database alone, never on the batch it came in;
* a command is judged in full before its first write; a refusal that wrote is an InvariantViolation, which ends the
  replica, as is a command of the other kind of group;
* a command a session sent before is answered from its memory, never executed again (dwd.meta.core.sessions).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from dwd.base.errors import (
    Corrupt,
    DwError,
    InvariantViolation,
    StorageFailed,
    VersionRefused,
)
from dwd.meta.core.control import apply as control_apply
from dwd.meta.core.control.commands import ControlCommand
from dwd.meta.core.control.state import Control
from dwd.meta.core.outcome import Outcome, decode_outcome, encode_outcome
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.sessions import Sessions
from dwd.meta.core.shard import apply as shard_apply
from dwd.meta.core.shard.commands import ShardCommand
from dwd.meta.core.shard.state import Shard
from dwd.meta.core.tx import At, Tx

VERSION = 1
"""The newest version of commands this code carries out."""

FATAL = (InvariantViolation, Corrupt, StorageFailed, VersionRefused)
"""Errors that say something of this replica, not of the command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterSession:
    """The first command of a session. Its envelope's `sequence` and `lowest` are an index of the log that had been
    applied when the session's id was chosen; 0 for none.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Every replica records its state hash by this definition, as of all entries before this one."""

    definition: int


Command = ControlCommand | ShardCommand | RegisterSession | Checkpoint
Record = Callable[[int], None]
"""Called with a checkpoint's definition once every row is as it is to be compared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A command and who sent it. `lowest` is the least sequence the session has no answer for yet."""

    session: int
    sequence: int
    lowest: int
    version: int
    command: Command


class Commands(Protocol):
    """What one kind of group does with its commands."""

    def apply(self, command: Command, at: At) -> Receipt:
        """Raises the DwError the command earned."""
        ...

    def flush(self) -> None:
        """End of a batch: write what was summed up."""
        ...


class ControlCommands:
    def __init__(self, tx: Tx) -> None:
        self.control = Control(tx)

    def apply(self, command: Command, at: At) -> Receipt:
        if not isinstance(command, ControlCommand):
            raise InvariantViolation(f"{type(command).__name__} is no command of control")
        return control_apply.apply(self.control, command, at)

    def flush(self) -> None:
        self.control.flush()


class ShardCommands:
    def __init__(self, tx: Tx) -> None:
        self.shard = Shard(tx)

    def apply(self, command: Command, at: At) -> Receipt:
        if not isinstance(command, ShardCommand):
            raise InvariantViolation(f"{type(command).__name__} is no command of a shard")
        return shard_apply.apply(self.shard, command, at)

    def flush(self) -> None:
        self.shard.flush()


class Engine:
    """One group's state machine without its file."""

    def __init__(self, tx: Tx, commands: Commands, record: Record) -> None:
        self._tx = tx
        self._commands = commands
        self._record = record
        self._sessions = Sessions()
        self._sessions.load(tx)

    def apply(self, envelope: Envelope, at: At) -> Outcome:
        """Raises FATAL errors only."""
        if not 0 < envelope.version <= VERSION:
            raise VersionRefused(
                "meta.command_version",
                f"a command of version {envelope.version}, this daemon knows 1 to {VERSION}",
                hint="upgrade the dwd binary of this node",
            )
        if isinstance(envelope.command, RegisterSession):
            try:
                self._sessions.register(envelope.session, at.index, known=envelope.lowest)
            except DwError as error:
                return error
            return Receipt(index=at.index, stamp=at.stamp)
        try:
            remembered = self._sessions.recall(envelope.session, envelope.sequence, envelope.lowest, at.index)
        except DwError as error:
            return error
        if remembered is not None:
            return decode_outcome(remembered)
        outcome = self._execute(envelope.command, at)
        self._sessions.remember(envelope.session, envelope.sequence, encode_outcome(outcome))
        return outcome

    def flush(self) -> None:
        """End of a batch."""
        self._commands.flush()
        self._sessions.flush(self._tx)

    def _execute(self, command: Command, at: At) -> Outcome:
        if isinstance(command, Checkpoint):
            self.flush()
            self._record(command.definition)
            return Receipt(index=at.index, stamp=at.stamp)
        before = self._tx.changes()
        try:
            return self._commands.apply(command, at)
        except FATAL:
            raise
        except DwError as error:
            if self._tx.changes() != before:
                raise InvariantViolation(f"{type(command).__name__} was refused after its first write") from error
            return error
