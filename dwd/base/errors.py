"""The one error tree. A class exists only where some caller reacts differently to it.

Every error carries a stable dotted `code` ("raft.not_leader"): scripts and tables match on it, never
on the message. Three tables map errors outward: `dwd.gateway.errors` to S3/HTTP, `dwd.rpc.errors` to
gRPC status, `dwd.base.exits` to the exit codes of dwctl. Messages say what happened, `hint` what to do
next; neither ever holds a secret.
"""

from __future__ import annotations

from typing import ClassVar

FieldValue = str | int | float | bool


class DwError(Exception):
    """Base of all errors raised on purpose.

    `fields` are typed facts for machines (ids, limits); they travel over gRPC with the code.
    """

    retryable: ClassVar[bool] = False

    def __init__(self, code: str, message: str, *, hint: str = "", **fields: FieldValue) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.fields: dict[str, FieldValue] = fields

    def __str__(self) -> str:
        return f"{self.message} ({self.code})"

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.code, self.message, self.hint, self.fields))


class InvalidArgument(DwError):
    """The request itself is wrong; sending it again cannot help. Nothing was changed."""


class NotFound(DwError):
    """The named thing does not exist."""


class AlreadyExists(DwError):
    """The name is taken."""


class Conflict(DwError):
    """The thing changed meanwhile, or a precondition (If-Match, compare-and-swap) does not hold."""


class Unauthenticated(DwError):
    """The caller did not prove who it is."""


class PermissionDenied(DwError):
    """The caller is known and may not do this."""


class SafetyRefused(DwError):
    """Data or quorum would be at risk; the message names the reason, the hint the override."""


class Busy(DwError):
    """A named limit is reached. Nothing was changed; try again after a pause."""

    retryable = True


class Unavailable(DwError):
    """A peer, leader or quorum cannot be reached. Nothing was changed."""

    retryable = True


class NotLeader(Unavailable):
    """This replica does not lead the group. `fields["leader_node"]` names who does, 0 if not known."""

    @property
    def leader_node(self) -> int:
        return int(self.fields.get("leader_node", 0))


class OutcomeUnknown(DwError):
    """The deadline passed or the connection broke after the request was sent: it may or may not take effect.

    Safe to retry only for requests that are idempotent or carry a session sequence.
    """

    retryable = True


class DeadlineExceeded(DwError):
    """Time ran out before anything was sent that could change state."""

    retryable = True


class Corrupt(DwError):
    """Stored or received bytes fail their checksum or format. They are never returned to a caller."""


class StorageFailed(DwError):
    """A device or file gave an I/O error, or is missing."""


class NoSpace(StorageFailed):
    """The device reached its reserve. Reads, deletes and repair go on."""

    retryable = True


class VersionRefused(DwError):
    """Data, peer or command of a version or cluster this daemon must not touch."""


class InvariantViolation(DwError):
    """A thing that cannot happen happened: a bug or memory rot. Whoever sees it stops serving, loudly."""

    def __init__(self, message: str, **fields: FieldValue) -> None:
        super().__init__("invariant.violated", message, hint="report this with the log around it", **fields)

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild_violation, (self.message, self.fields))


def _rebuild(kind: type[DwError], code: str, message: str, hint: str, fields: dict[str, FieldValue]) -> DwError:
    return kind(code, message, hint=hint, **fields)


def _rebuild_violation(message: str, fields: dict[str, FieldValue]) -> InvariantViolation:
    return InvariantViolation(message, **fields)


KINDS: dict[str, type[DwError]] = {
    kind.__name__: kind
    for kind in (
        InvalidArgument, NotFound, AlreadyExists, Conflict, Unauthenticated, PermissionDenied, SafetyRefused,
        Busy, Unavailable, NotLeader, OutcomeUnknown, DeadlineExceeded, Corrupt, StorageFailed, NoSpace,
        VersionRefused,
    )
}  # fmt: skip
"""Every class that may cross the wire, by the name it carries there. An InvariantViolation never does as itself."""
