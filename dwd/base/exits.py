"""Errors as the commands tell them: lines for people, and exit codes, one for each kind that a script reacts to."""

from __future__ import annotations

from enum import IntEnum

from dwd.base import errors


class Exit(IntEnum):
    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    SAFETY_REFUSED = 4
    UNAVAILABLE = 5
    OUTCOME_UNKNOWN = 6
    DENIED = 7
    CONFLICT = 8


_BY_KIND: tuple[tuple[type[errors.DwError], Exit], ...] = (
    (errors.InvalidArgument, Exit.USAGE),
    (errors.NotFound, Exit.NOT_FOUND),
    (errors.SafetyRefused, Exit.SAFETY_REFUSED),
    (errors.Busy, Exit.UNAVAILABLE),
    (errors.Unavailable, Exit.UNAVAILABLE),
    (errors.DeadlineExceeded, Exit.UNAVAILABLE),
    (errors.NoSpace, Exit.UNAVAILABLE),
    (errors.OutcomeUnknown, Exit.OUTCOME_UNKNOWN),
    (errors.Unauthenticated, Exit.DENIED),
    (errors.PermissionDenied, Exit.DENIED),
    (errors.Conflict, Exit.CONFLICT),
    (errors.AlreadyExists, Exit.CONFLICT),
)


def exit_code(error: errors.DwError) -> Exit:
    """The exit code for `error`; kinds without one of their own exit FAILED."""
    for kind, code in _BY_KIND:
        if isinstance(error, kind):
            return code
    return Exit.FAILED


def report(error: errors.DwError) -> str:
    """What a command prints for people: what happened, its code, and what to do next; whole lines."""
    first, *more = error.message.split("\n")
    colon = ":" if more and first.endswith(":") else ""
    lines = [f"error: {first.removesuffix(':') if colon else first} ({error.code}){colon}", *more]
    if error.hint:
        lines.append(f"  next: {error.hint}")
    return "".join(f"{line}\n" for line in lines)
