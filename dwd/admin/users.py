"""Users and their access keys. Secrets are made here, sealed before they leave this node, and shown once."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from dwd.admin.context import AdminContext
from dwd.base.errors import InvalidArgument, NotFound
from dwd.meta.core.control.commands import (
    CreateAccessKey,
    CreateUser,
    DeleteAccessKey,
    DeleteUser,
    SetAccessKeyState,
    SetUserState,
)
from dwd.meta.core.control.queries import GetAccessKey, GetUser, ListAccessKeys, ListUsers
from dwd.meta.core.control.rows import AccessKeyRow, Standing, UserRow
from dwd.security.access_keys import AccessKey, new_access_key, seal_secret

PAGE = 1_000
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


@dataclass(frozen=True, slots=True, kw_only=True)
class UserView:
    user: UserRow
    keys: tuple[AccessKeyRow, ...] = field(default=())


async def create_user(context: AdminContext, name: str, *, admin: bool) -> UserView:
    """Raises InvalidArgument, AlreadyExists."""
    if _NAME.fullmatch(name) is None:
        raise InvalidArgument(
            "user.bad_name", f"not a user name: {name[:63]!r}", hint="1 to 63 of a-z, 0-9, dot, dash, underscore"
        )
    await context.meta.control(CreateUser(name=name, admin=admin), deadline=context.deadline())
    return await user_view(context, name)


async def set_user(context: AdminContext, name: str, *, enabled: bool | None) -> UserView:
    """Raises NotFound."""
    if enabled is not None:
        standing = Standing.ENABLED if enabled else Standing.DISABLED
        await context.meta.control(SetUserState(name=name, standing=standing), deadline=context.deadline())
    return await user_view(context, name)


async def delete_user(context: AdminContext, name: str) -> None:
    """Raises NotFound, Conflict meta.user_owns_buckets."""
    await context.meta.control(DeleteUser(name=name), deadline=context.deadline())


async def user_view(context: AdminContext, name: str) -> UserView:
    """Raises NotFound."""
    answer = await context.meta.read(GetUser(name=name), deadline=context.deadline())
    if answer.user is None:
        raise NotFound("user.not_found", f"no user {name[:63]!r}", hint="`dwctl user list` shows them")
    keys = await context.meta.read(ListAccessKeys(user=name), deadline=context.deadline())
    return UserView(user=answer.user, keys=keys.keys)


async def list_users(context: AdminContext) -> list[UserView]:
    """All, by name."""
    found: list[UserView] = []
    after, more = "", True
    while more:
        answer = await context.meta.read(ListUsers(after=after, limit=PAGE), deadline=context.deadline())
        for user in answer.users:
            keys = await context.meta.read(ListAccessKeys(user=user.name), deadline=context.deadline())
            found.append(UserView(user=user, keys=keys.keys))
            after = user.name
        more = answer.more
    return found


async def create_access_key(context: AdminContext, user: str) -> AccessKey:
    """Raises NotFound, Busy."""
    made = new_access_key()
    command = CreateAccessKey(access_key=made.id, user=user, sealed_secret=seal_secret(context.keyring(), made))
    await context.meta.control(command, deadline=context.deadline())
    return made


async def set_access_key(context: AdminContext, access_key: str, *, enabled: bool | None) -> AccessKeyRow:
    """Raises NotFound."""
    if enabled is not None:
        standing = Standing.ENABLED if enabled else Standing.DISABLED
        command = SetAccessKeyState(access_key=access_key, standing=standing)
        await context.meta.control(command, deadline=context.deadline())
    answer = await context.meta.read(GetAccessKey(access_key=access_key), deadline=context.deadline())
    if answer.key is None:
        raise NotFound("key.not_found", f"no access key {access_key[:63]!r}")
    return answer.key


async def delete_access_key(context: AdminContext, access_key: str) -> None:
    """Raises NotFound."""
    receipt = await context.meta.control(DeleteAccessKey(access_key=access_key), deadline=context.deadline())
    if not receipt.existed:
        raise NotFound("key.not_found", f"no access key {access_key[:63]!r}")


async def first_admin(context: AdminContext) -> str:
    """The administrator who owns buckets that operators create for nobody in particular. Raises NotFound."""
    for view in await list_users(context):
        if view.user.admin:
            return view.user.name
    raise NotFound("user.no_admin", "no administrator owns the bucket", hint="name an owner with --owner")
