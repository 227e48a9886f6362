"""A client over two and three shards: what belongs where, and listings that nobody can tell from those of one shard."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dwd.base.ids import GroupId
from dwd.meta.client import MetaClient
from dwd.meta.core.control.rows import ShardMap, ShardRange, shard_key
from dwd.meta.core.shard.commands import CreateUpload, PutObject
from dwd.meta.core.shard.queries import HeadObject, ListObjects, ListUploads
from dwd.meta.view import ControlView
from tests.twins.meta_group import Group

PLAIN = {"".join(letters) for count in (1, 2, 3) for letters in product("at/z", repeat=count)}
KEYS = sorted(PLAIN | {"ä", "t/€", "😀"})
PREFIXES = ("", "a", "t", "t/", "t/t", "tz", "none")
STARTS = {
    2: (b"", shard_key("b", "t")),
    3: (b"", shard_key("b", "t/"), shard_key("b", "t/t")),
    4: (b"", shard_key("a", "z"), shard_key("b", "tz/"), shard_key("c", "")),
}


class Shards:
    """Groups 1 and up with the ranges of STARTS, reached without Raft."""

    def __init__(self, root: Path, starts: tuple[bytes, ...]) -> None:
        ranges = tuple(ShardRange(start=start, group=GroupId(at + 1)) for at, start in enumerate(starts))
        self.groups = {r.group: Group(root / f"shard-{r.group}", r.group) for r in ranges}
        self.asked: list[GroupId] = []
        topology = SimpleNamespace(shard_map=ShardMap(epoch=1, ranges=ranges), nodes=())  # type: ignore[arg-type]
        self.client: Any = MetaClient.__new__(MetaClient)
        self.client._view = ControlView.__new__(ControlView)
        self.client._view._starts = None
        self.client._view.topology = lambda: topology
        self.client._router = self.client._proposer = self

    async def answer(self, group: GroupId, query: Any, *, deadline: float) -> Any:
        self.asked.append(group)
        return self.groups[group].ask(query)

    async def propose(self, group: GroupId, command: Any, *, deadline: float) -> Any:
        return self.groups[group].send(command)

    def close(self) -> None:
        for group in self.groups.values():
            group.close()


@pytest.fixture(scope="module", params=[2, 3, 4])
def shards(request: Any, tmp_path_factory: Any) -> Iterator[Shards]:
    made = Shards(tmp_path_factory.mktemp("shards"), STARTS[request.param])
    for bucket in ("a", "b", "c"):
        for key in KEYS if bucket == "b" else ("z",):
            group = made.client._view.group_of(bucket, key)
            made.groups[group].send(PutObject(bucket=bucket, key=key, bucket_epoch=1, size=1, etag="e", inline=b"x"))
    for at, key in enumerate(KEYS[::3]):
        group = made.client._view.group_of("b", key)
        made.groups[group].send(CreateUpload(bucket="b", key=key, bucket_epoch=1, upload=f"{at:032x}"))
    yield made
    made.close()


def rolled(keys: list[str], prefix: str, delimiter: str) -> list[str]:
    """What a listing shows, objects as they are and common prefixes with a leading >."""
    shown: list[str] = []
    for key in keys:
        if not key.startswith(prefix):
            continue
        at = key.find(delimiter, len(prefix)) if delimiter else -1
        item = key if at < 0 else ">" + key[: at + 1]
        if item not in shown[-1:]:
            shown.append(item)
    return shown


async def test_keys_are_found_where_they_belong(shards: Shards) -> None:
    for key in KEYS:
        found = await shards.client.read(HeadObject(bucket="b", key=key), deadline=0)
        assert found.object is not None


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(("prefix", "delimiter"), list(product(PREFIXES, ["", "/"])))
async def test_pages_add_up_to_the_listing_of_one_shard(
    shards: Shards, prefix: str, delimiter: str, limit: int
) -> None:
    seen: list[str] = []
    after, truncated = "", True
    while truncated:
        query = ListObjects(bucket="b", prefix=prefix, delimiter=delimiter, after=after, limit=limit)
        page = await shards.client.list_objects(query, deadline=0)
        assert len(page.objects) + len(page.prefixes) <= limit
        items = sorted([(o.key.encode(), o.key) for o in page.objects] + [(p.encode(), ">" + p) for p in page.prefixes])
        seen += [item for _, item in items]
        truncated = page.truncated
        assert page.next_after > after if truncated else page.next_after == "", "every page goes on"
        after = page.next_after
    assert seen == rolled(KEYS, prefix, delimiter)


@pytest.mark.parametrize("limit", [1, 4, 1000])
@pytest.mark.parametrize(("prefix", "delimiter"), list(product(["", "t", "t/"], ["", "/"])))
async def test_pages_of_uploads_add_up_too(shards: Shards, prefix: str, delimiter: str, limit: int) -> None:
    seen: list[str] = []
    after, upload, truncated = "", "", True
    while truncated:
        query = ListUploads(
            bucket="b", prefix=prefix, delimiter=delimiter, after_key=after, after_upload=upload, limit=limit
        )
        page = await shards.client.list_uploads(query, deadline=0)
        items = sorted(
            [(u.key.encode(), u.key, u.upload) for u in page.uploads]
            + [(p.encode(), ">" + p, "") for p in page.prefixes]
        )
        seen += [item for _, item, _ in items]
        truncated = page.truncated
        if items:
            after, upload = items[-1][0].decode(), items[-1][2]
        assert items or not truncated
    assert seen == rolled(KEYS[::3], prefix, delimiter)


async def test_only_the_shards_of_the_prefix_are_asked(shards: Shards) -> None:
    shards.asked.clear()
    await shards.client.list_objects(ListObjects(bucket="b", prefix="a"), deadline=0)
    assert shards.asked == [shards.client._view.group_of("b", "a")]
    shards.asked.clear()
    await shards.client.list_objects(ListObjects(bucket="c"), deadline=0)
    assert set(shards.asked) == {shards.client._view.group_of("c", "z")}
