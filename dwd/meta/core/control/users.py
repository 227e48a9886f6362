"""Users, access keys, join tokens."""

from __future__ import annotations

from dwd.base.errors import AlreadyExists, Busy, Conflict, InvalidArgument, NotFound, PermissionDenied
from dwd.base.ids import stamp_ms
from dwd.meta.core.control.commands import (
    CreateAccessKey,
    CreateJoinToken,
    CreateUser,
    DeleteAccessKey,
    DeleteUser,
    SetAccessKeyState,
    SetUserState,
    UseJoinToken,
)
from dwd.meta.core.control.keys import require_present
from dwd.meta.core.control.rows import Standing
from dwd.meta.core.control.state import Control, Part, check_blob, check_name
from dwd.meta.core.receipt import Receipt
from dwd.meta.core.tx import At

USERS_MAX = 100_000
KEYS_PER_USER_MAX = 100
TOKENS_MAX = 1_000
DIGEST_BYTES = 32
NEW_ONE = "make a new one: `dwctl node join-token`"


def _require_user(control: Control, name: str) -> None:
    if control.tx.row("SELECT 1 FROM users WHERE name = ?", (name,)) is None:
        raise NotFound("meta.no_such_user", f"there is no user {name}")


def create_user(control: Control, command: CreateUser, at: At) -> Receipt:
    check_name(command.name, "a user's name")
    if control.tx.row("SELECT 1 FROM users WHERE name = ?", (command.name,)) is not None:
        raise AlreadyExists("meta.user_exists", f"there is a user {command.name} already")
    count = control.tx.row("SELECT count(*) FROM users") or (0,)
    if count[0] >= USERS_MAX:
        raise Busy("meta.users", f"there may be {USERS_MAX} users")
    control.tx.run(
        "INSERT INTO users VALUES (?, ?, ?, ?)", (command.name, int(command.admin), Standing.ENABLED, at.stamp)
    )
    control.touched.add(Part.USERS)
    return Receipt(index=at.index, stamp=at.stamp)


def set_user_state(control: Control, command: SetUserState, at: At) -> Receipt:
    _require_user(control, command.name)
    control.tx.run("UPDATE users SET standing = ? WHERE name = ?", (command.standing, command.name))
    control.touched.add(Part.USERS)
    return Receipt(index=at.index, stamp=at.stamp, existed=True)


def delete_user(control: Control, command: DeleteUser, at: At) -> Receipt:
    _require_user(control, command.name)
    owned = control.tx.row("SELECT name FROM buckets WHERE owner = ? LIMIT 1", (command.name,))
    if owned is not None:
        raise Conflict("meta.user_owns_buckets", f"the user owns bucket {owned[0]}", bucket=owned[0])
    control.tx.run("DELETE FROM access_keys WHERE user = ?", (command.name,))
    control.tx.run("DELETE FROM users WHERE name = ?", (command.name,))
    control.touched.add(Part.USERS)
    return Receipt(index=at.index, stamp=at.stamp, existed=True)


def create_access_key(control: Control, command: CreateAccessKey, at: At) -> Receipt:
    check_name(command.access_key, "an access key")
    check_blob(command.sealed_secret)
    require_present(control, command.sealed_secret)
    _require_user(control, command.user)
    if control.tx.row("SELECT 1 FROM access_keys WHERE access_key = ?", (command.access_key,)) is not None:
        raise AlreadyExists("meta.access_key_exists", "the access key is taken")
    count = control.tx.row("SELECT count(*) FROM access_keys WHERE user = ?", (command.user,)) or (0,)
    if count[0] >= KEYS_PER_USER_MAX:
        raise Busy("meta.access_keys", f"a user may have {KEYS_PER_USER_MAX} access keys")
    control.tx.run(
        "INSERT INTO access_keys VALUES (?, ?, ?, ?, ?)",
        (command.access_key, command.user, command.sealed_secret, Standing.ENABLED, at.stamp),
    )
    control.touched.add(Part.USERS)
    return Receipt(index=at.index, stamp=at.stamp)


def set_access_key_state(control: Control, command: SetAccessKeyState, at: At) -> Receipt:
    if control.tx.row("SELECT 1 FROM access_keys WHERE access_key = ?", (command.access_key,)) is None:
        raise NotFound("meta.no_such_access_key", "there is no such access key")
    control.tx.run("UPDATE access_keys SET standing = ? WHERE access_key = ?", (command.standing, command.access_key))
    control.touched.add(Part.USERS)
    return Receipt(index=at.index, stamp=at.stamp, existed=True)


def delete_access_key(control: Control, command: DeleteAccessKey, at: At) -> Receipt:
    control.tx.run("DELETE FROM access_keys WHERE access_key = ?", (command.access_key,))
    control.touched.add(Part.USERS)
    return Receipt(index=at.index, stamp=at.stamp, existed=control.tx.changed() == 1)


def create_join_token(control: Control, command: CreateJoinToken, at: At) -> Receipt:
    check_name(command.token, "a token's id")
    if len(command.digest) != DIGEST_BYTES:
        raise InvalidArgument("meta.token_digest", f"a token's digest has {DIGEST_BYTES} bytes")
    now = stamp_ms(at.stamp)
    if control.tx.row("SELECT 1 FROM join_tokens WHERE token = ?", (command.token,)) is not None:
        raise AlreadyExists("meta.token_exists", "the token's id is taken")
    count = control.tx.row("SELECT count(*) FROM join_tokens WHERE expires_unix_ms >= ?", (now,)) or (0,)
    if count[0] >= TOKENS_MAX:
        raise Busy("meta.tokens", f"there may be {TOKENS_MAX} join tokens at a time")
    control.tx.run("DELETE FROM join_tokens WHERE expires_unix_ms < ?", (now,))
    control.tx.run(
        "INSERT INTO join_tokens VALUES (?, ?, ?, NULL)", (command.token, command.digest, command.expires_unix_ms)
    )
    return Receipt(index=at.index, stamp=at.stamp)


def use_join_token(control: Control, command: UseJoinToken, at: At) -> Receipt:
    row = control.tx.row("SELECT expires_unix_ms, used_by FROM join_tokens WHERE token = ?", (command.token,))
    if row is None:
        raise PermissionDenied("meta.token_unknown", "the join token is not known to this cluster", hint=NEW_ONE)
    expires, used_by = row
    if used_by is not None and used_by != command.node:
        raise PermissionDenied("meta.token_used", "the join token was used by another node", hint=NEW_ONE)
    if expires < stamp_ms(at.stamp):
        raise PermissionDenied("meta.token_expired", "the join token has expired", hint=NEW_ONE)
    control.tx.run("UPDATE join_tokens SET used_by = ? WHERE token = ?", (command.node, command.token))
    return Receipt(index=at.index, stamp=at.stamp, existed=used_by is not None)
