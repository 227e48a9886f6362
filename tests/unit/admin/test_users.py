"""Users and access keys, over a real control group."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dwd.admin import users
from dwd.base.errors import AlreadyExists, Conflict, InvalidArgument, NotFound
from dwd.base.ids import NodeId
from dwd.meta.core.control.commands import CreateBucket
from dwd.meta.core.control.queries import GetAccessKey
from dwd.meta.core.control.rows import Standing
from dwd.security.access_keys import PURPOSE, open_secret
from dwd.security.keyring import new_keyring
from tests.twins.meta_nodes import running, soon

OLD = "u"
"""The user whom the twin begins with, no administrator."""


@pytest.fixture
async def admin(tmp_path: Path) -> AsyncIterator[Any]:
    ring = new_keyring()
    async with running(tmp_path, 1) as nodes:
        yield SimpleNamespace(meta=nodes[NodeId(1)].client, keyring=lambda: ring, deadline=soon)


@pytest.mark.parametrize("name", ["", "-a", ".a", "A", "a b", "a/b", "ü", "a\n", "a" * 64])
async def test_user_is_refused_when_the_name_is_bad(admin: Any, name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await users.create_user(admin, name, admin=False)
    assert caught.value.code == "user.bad_name"
    assert [view.user.name for view in await users.list_users(admin)] == [OLD]


@pytest.mark.parametrize("name", ["a", "0", "a.b-c_d", "a" * 63])
async def test_user_is_made_as_asked_for_and_only_once(admin: Any, name: str) -> None:
    made = await users.create_user(admin, name, admin=True)
    assert (made.user.name, made.user.admin, made.user.standing, made.keys) == (name, True, Standing.ENABLED, ())
    with pytest.raises(AlreadyExists):
        await users.create_user(admin, name, admin=False)
    assert (await users.user_view(admin, name)).user.admin


async def test_user_is_disabled_and_enabled_and_left_alone_when_nothing_is_said(admin: Any) -> None:
    standings = [(await users.set_user(admin, OLD, enabled=wish)).user.standing for wish in (False, None, True, None)]
    assert standings == [Standing.DISABLED, Standing.DISABLED, Standing.ENABLED, Standing.ENABLED]


async def test_unknown_user_is_not_found(admin: Any) -> None:
    for verb in (
        users.set_user(admin, "nobody", enabled=False),
        users.set_user(admin, "nobody", enabled=None),
        users.user_view(admin, "nobody"),
        users.delete_user(admin, "nobody"),
        users.create_access_key(admin, "nobody"),
    ):
        with pytest.raises(NotFound):
            await verb


async def test_deleted_user_is_gone_with_all_keys(admin: Any) -> None:
    await users.create_user(admin, "ann", admin=False)
    key = await users.create_access_key(admin, "ann")
    await users.delete_user(admin, "ann")
    assert [view.user.name for view in await users.list_users(admin)] == [OLD]
    with pytest.raises(NotFound):
        await users.set_access_key(admin, key.id, enabled=None)


async def test_user_is_kept_when_it_owns_buckets(admin: Any) -> None:
    await admin.meta.control(CreateBucket(name="bkt", owner=OLD, profile=""), deadline=soon())
    with pytest.raises(Conflict):
        await users.delete_user(admin, OLD)
    assert [view.user.name for view in await users.list_users(admin)] == [OLD]


async def test_all_users_are_listed_with_their_keys_when_they_fill_pages(
    admin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(users, "PAGE", 2)
    for name in ("c", "a", "b", "z"):
        await users.create_user(admin, name, admin=False)
    key = await users.create_access_key(admin, "c")
    listed = await users.list_users(admin)
    assert [view.user.name for view in listed] == ["a", "b", "c", OLD, "z"]
    assert {view.user.name: [k.access_key for k in view.keys] for view in listed if view.keys} == {"c": [key.id]}


async def test_secret_is_kept_sealed(admin: Any) -> None:
    made = await users.create_access_key(admin, OLD)
    row = (await admin.meta.read(GetAccessKey(access_key=made.id), deadline=soon())).key
    assert made.secret.encode() not in row.sealed_secret
    assert open_secret(admin.keyring().for_purpose(PURPOSE), made.id, row.sealed_secret) == made.secret


async def test_access_key_is_disabled_enabled_and_deleted_once(admin: Any) -> None:
    key = (await users.create_access_key(admin, OLD)).id
    standings = [(await users.set_access_key(admin, key, enabled=wish)).standing for wish in (False, None, True)]
    assert standings == [Standing.DISABLED, Standing.DISABLED, Standing.ENABLED]
    await users.delete_access_key(admin, key)
    for verb in (users.delete_access_key(admin, key), users.set_access_key(admin, key, enabled=True)):
        with pytest.raises(NotFound):
            await verb


async def test_first_admin_is_an_administrator_and_nobody_when_there_is_none(admin: Any) -> None:
    with pytest.raises(NotFound) as caught:
        await users.first_admin(admin)
    assert caught.value.code == "user.no_admin"
    await users.create_user(admin, "zoe", admin=True)
    assert await users.first_admin(admin) == "zoe"
