"""The apply engine: one batch of decoded commands after another on one group's database.

Invariants:
* what an entry does depends on the entry and the database alone, never on the batch it came in;
* a command is judged in full before its first write; a refusal that wrote is an InvariantViolation, which ends the
  replica, as is a command of the other kind of group;
* commands are judged by the group's active version (dwd.meta.core.versions), never by what the binary knows;
* a command a session sent before is answered from its memory, never executed again (dwd.meta.core.sessions).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from dwd.base.errors import (
    Conflict,
    Corrupt,
    DwError,
    InvalidArgument,
    InvariantViolation,
    StorageFailed,
    VersionRefused,
)
from dwd.meta.core.control import apply as control_apply
from dwd.meta.core.control import jobs
from dwd.meta.core.control.commands import ControlCommand
from dwd.meta.core.control.state import Control, Part
from dwd.meta.core.fencing import Fence
from dwd.meta.core.outcome import Outcome, decode_outcome, encode_outcome
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.sessions import Sessions
from dwd.meta.core.shard import apply as shard_apply
from dwd.meta.core.shard import fences
from dwd.meta.core.shard.commands import ShardCommand
from dwd.meta.core.shard.state import Shard
from dwd.meta.core.tx import At, Tx
from dwd.meta.core.versions import KNOWN, Versions

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


@dataclass(frozen=True, slots=True, kw_only=True)
class SetVersion:
    """The group's active version becomes this one: the present one plus one. Refused: Conflict meta.version_active,
    InvalidArgument meta.version_skipped. A binary that does not know the version stops here.
    """

    version: int


Command = ControlCommand | ShardCommand | RegisterSession | Checkpoint | SetVersion
Upgraded = Callable[[int], None]
"""Called with the new active version once the tables are as it wants them."""
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
    fence: Fence | None = None
    """Of a step of a job: under which lease it is sent."""


class Commands(Protocol):
    """What one kind of group does with its commands."""

    def apply(self, command: Command, at: At) -> Receipt:
        """Raises the DwError the command earned."""
        ...

    def check_fence(self, fence: Fence) -> None:
        """Raises Conflict job.fenced for a command of a lease that is not the present one."""
        ...

    def keep_fence(self, fence: Fence) -> None:
        """A command was carried out, or refused, under a lease that passed the check."""
        ...

    def flush(self) -> None:
        """End of a batch: write what was summed up."""
        ...

    def reload(self) -> None:
        """The tables were changed by an upgrade, after a `flush`: forget what was taken from them."""
        ...


class ControlCommands:
    def __init__(self, tx: Tx) -> None:
        self.control = Control(tx)

    def apply(self, command: Command, at: At) -> Receipt:
        if not isinstance(command, ControlCommand):
            raise InvariantViolation(f"{type(command).__name__} is no command of control")
        return control_apply.apply(self.control, command, at)

    def check_fence(self, fence: Fence) -> None:
        jobs.check_fence(self.control, fence)

    def keep_fence(self, fence: Fence) -> None:
        """The job's own row says it already."""

    def flush(self) -> None:
        self.control.flush()

    def reload(self) -> None:
        self.control.touched.update(Part)


class ShardCommands:
    def __init__(self, tx: Tx) -> None:
        self.shard = Shard(tx)

    def apply(self, command: Command, at: At) -> Receipt:
        if not isinstance(command, ShardCommand):
            raise InvariantViolation(f"{type(command).__name__} is no command of a shard")
        return shard_apply.apply(self.shard, command, at)

    def check_fence(self, fence: Fence) -> None:
        fences.check(self.shard, fence)

    def keep_fence(self, fence: Fence) -> None:
        fences.keep(self.shard, fence)

    def flush(self) -> None:
        self.shard.flush()

    def reload(self) -> None:
        self.shard = Shard(self.shard.tx)


class Engine:
    """One group's state machine without its file."""

    def __init__(
        self, tx: Tx, commands: Commands, record: Record, upgraded: Upgraded, *, versions: Versions = KNOWN
    ) -> None:
        self._tx = tx
        self._commands = commands
        self._record = record
        self._upgraded = upgraded
        self._versions = versions
        self.version: int = (tx.row("SELECT version FROM position") or (versions.oldest,))[0]
        """The group's active version: the one thing to branch on where versions of a command differ."""
        self._sessions = Sessions()
        self._sessions.load(tx)

    def apply(self, envelope: Envelope, at: At) -> Outcome:
        """Raises FATAL errors only."""
        if not 0 < envelope.version <= self.version:
            message = f"a command of version {envelope.version}, the group has the active version {self.version}"
            return Conflict("meta.command_version", message)
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
        outcome = self._execute(envelope, at)
        self._sessions.remember(envelope.session, envelope.sequence, encode_outcome(outcome))
        return outcome

    def flush(self) -> None:
        """End of a batch."""
        self._commands.flush()
        self._sessions.flush(self._tx)

    def _execute(self, envelope: Envelope, at: At) -> Outcome:
        if envelope.fence is None:
            return self._carry_out(envelope.command, at)
        try:
            self._commands.check_fence(envelope.fence)
        except FATAL:
            raise
        except DwError as error:
            return error
        outcome = self._carry_out(envelope.command, at)
        self._commands.keep_fence(envelope.fence)
        return outcome

    def _carry_out(self, command: Command, at: At) -> Outcome:
        if isinstance(command, Checkpoint):
            self.flush()
            self._record(command.definition)
            return Receipt(index=at.index, stamp=at.stamp)
        if isinstance(command, SetVersion):
            return self._set_version(command, at)
        before = self._tx.changes()
        try:
            return self._commands.apply(command, at)
        except FATAL:
            raise
        except DwError as error:
            if self._tx.changes() != before:
                raise InvariantViolation(f"{type(command).__name__} was refused after its first write") from error
            return error

    def _set_version(self, command: SetVersion, at: At) -> Outcome:
        """Refusals follow from the active version alone: they are the same on every replica."""
        wanted, known = command.version, self._versions
        if wanted <= self.version:
            return Conflict("meta.version_active", f"the group has the active version {self.version}")
        if wanted > self.version + 1:
            return InvalidArgument("meta.version_skipped", f"version {self.version + 1} comes before {wanted}")
        if wanted > known.newest:
            raise VersionRefused(
                "meta.version_newer",
                f"the group's active version becomes {wanted}, this daemon knows {known.oldest} to {known.newest}",
                hint="upgrade the dwd binary of this node",
            )
        self.flush()
        try:
            known.upgrades[wanted](self._tx)
        except FATAL:
            raise
        except DwError as error:
            raise InvariantViolation(f"the upgrade to version {wanted} failed") from error
        self._tx.run("UPDATE position SET version = ?", (wanted,))
        self.version = wanted
        self._commands.reload()
        self._upgraded(wanted)
        return Receipt(index=at.index, stamp=at.stamp)
