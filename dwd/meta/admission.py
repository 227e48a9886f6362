"""Whether a proposal of another node may go into a group's log, judged while it can still be refused.

What is in the log must be carried out by every replica, and what cannot be (bytes that are no command, a command of
the other kind of group, numbers no database holds) would end the group on all of them at once. What a command may
or may not do is not judged here: that depends on the state it meets.
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from typing import Any

from dwd.base.errors import Corrupt, InvalidArgument, VersionRefused
from dwd.base.ids import CONTROL_GROUP, GroupId
from dwd.base.limits import COMMAND_BYTES_MAX
from dwd.meta.codec import decode_envelope
from dwd.meta.core.apply import Checkpoint, RegisterSession, SetVersion
from dwd.meta.core.control.commands import ControlCommand
from dwd.meta.core.shard.commands import ShardCommand
from dwd.meta.core.tx import INTEGER_MAX, INTEGER_MIN
from dwd.meta.core.versions import NEWEST

_EITHER: frozenset[type[Any]] = frozenset({RegisterSession, Checkpoint, SetVersion})
_CONTROL: frozenset[type[Any]] = _EITHER | frozenset(typing.get_args(ControlCommand))
_SHARD: frozenset[type[Any]] = _EITHER | frozenset(typing.get_args(ShardCommand))
_NO_NUMBERS = frozenset({str, bytes, bool, types.NoneType, Ellipsis})


def check_proposal(group: GroupId, payload: bytes) -> None:
    """Raises InvalidArgument, VersionRefused."""
    if len(payload) > COMMAND_BYTES_MAX:
        raise InvalidArgument("meta.command_too_large", f"a command has at most {COMMAND_BYTES_MAX} bytes")
    try:
        envelope = decode_envelope(payload)
    except (Corrupt, ValueError) as error:
        raise InvalidArgument("meta.command_malformed", f"a proposal is no command: {error}") from error
    if not 0 < envelope.version <= NEWEST:
        raise VersionRefused("meta.command_version", f"a command of version {envelope.version}, known: {NEWEST}")
    command = envelope.command
    if type(command) not in (_CONTROL if group == CONTROL_GROUP else _SHARD):
        raise InvalidArgument("meta.wrong_group", f"{type(command).__name__} is no command of group {group}")
    if isinstance(command, SetVersion) and command.version > NEWEST:
        raise VersionRefused("meta.version_newer", f"version {command.version} is not known here, but 1 to {NEWEST}")
    if not (_storable(envelope) and envelope.session > 0 and envelope.lowest <= envelope.sequence):
        raise InvalidArgument("meta.command_malformed", f"{type(command).__name__} holds numbers that mean nothing")


def _storable(value: Any) -> bool:
    """Whether a database can hold every number in it."""
    if isinstance(value, int):
        return INTEGER_MIN <= value <= INTEGER_MAX
    parts = value if isinstance(value, tuple) else [getattr(value, name) for name in _numbered(value.__class__)]
    for part in parts:  # noqa: SIM110 - a loop takes half the time, and every commit pays it
        if not _storable(part):
            return False
    return True


@functools.cache
def _numbered(kind: type[Any]) -> tuple[str, ...]:
    """The fields of a type that may hold numbers: looked up once, as most fields are text and bytes."""
    if not dataclasses.is_dataclass(kind):
        return ()
    hints = typing.get_type_hints(kind)
    return tuple(field.name for field in dataclasses.fields(kind) if _may_hold_numbers(hints[field.name]))


def _may_hold_numbers(hint: Any) -> bool:
    hint = getattr(hint, "__supertype__", hint)
    if hint in _NO_NUMBERS:
        return False
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return bool(_numbered(hint))
    inner = typing.get_args(hint)
    return any(map(_may_hold_numbers, inner)) if inner else True
