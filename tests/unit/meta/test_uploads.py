"""Multipart uploads of one shard."""

from __future__ import annotations

from typing import Any

import pytest

from dwd.base.errors import DwError, NotFound
from dwd.base.ids import Stamp
from dwd.meta.core.shard.commands import (
    PART_BYTES_MIN,
    AbortUpload,
    ChosenPart,
    CompleteUpload,
    CreateUpload,
    DeleteObject,
    Drain,
    ExpireAbandoned,
    PutPart,
)
from dwd.meta.core.shard.queries import (
    GcPage,
    GetObject,
    GetPartBounds,
    GetUsage,
    ListParts,
    ListUploads,
)
from tests.twins.meta_group import Group, block

FAR = Stamp(1 << 62)
UPLOAD = "0" * 31 + "1"


def create(upload: str = UPLOAD, key: str = "k") -> CreateUpload:
    return CreateUpload(bucket="b", key=key, bucket_epoch=1, upload=upload, headers=b"h")


def part(number: int, size: int = PART_BYTES_MIN, *, name: int | None = None) -> PutPart:
    identity = number if name is None else name
    return PutPart(
        bucket="b", key="k", bucket_epoch=1, upload=UPLOAD, number=number, size=size, etag=f"p{identity}",
        staged=1000 + identity, blocks=(block(identity, size),),
    )  # fmt: skip


def complete(*numbers: int, **changes: Any) -> CompleteUpload:
    chosen = tuple(ChosenPart(number=n, etag=f"p{n}") for n in numbers)
    facts: dict[str, Any] = {"bucket": "b", "key": "k", "bucket_epoch": 1, "upload": UPLOAD, "etag": "whole-2"}
    return CompleteUpload(**{**facts, "parts": chosen, **changes})


def drain_all(shard: Group) -> list[int]:
    while shard.send(Drain(limit=100)).more:
        pass
    return sorted(int.from_bytes(r.stored.block[8:]) for r in shard.ask(GcPage(before=FAR)).rows)


def test_object_is_made_of_chosen_parts_when_completed(shard: Group) -> None:
    shard.send(create())
    for n in (1, 2, 5):
        shard.send(part(n, 10 if n == 5 else PART_BYTES_MIN))
    receipt = shard.send(complete(1, 5))
    assert receipt.size == PART_BYTES_MIN + 10
    answer = shard.ask(GetObject(bucket="b", key="k"))
    assert answer.object is not None
    assert (answer.object.part_count, answer.object.headers, answer.object.etag) == (2, b"h", "whole-2")
    assert [p.owned.stored.crc32c for p in answer.blocks] == [1, 5]
    bounds = shard.ask(GetPartBounds(bucket="b", key="k", number=2)).part
    assert bounds is not None
    assert (bounds.offset, bounds.size) == (PART_BYTES_MIN, 10)
    assert shard.ask(GetPartBounds(bucket="b", key="k", number=3)).part is None
    assert drain_all(shard) == [2], "the part that was not chosen"
    assert shard.sql("SELECT count(*) FROM parts") == [(0,)]
    shard.send(DeleteObject(bucket="b", key="k", bucket_epoch=1))
    assert drain_all(shard) == [1, 2, 5]
    for table in ("blocks", "lists", "list_rows", "manifests", "drains", "uploads"):
        assert shard.sql(f"SELECT count(*) FROM {table}") == [(0,)], table


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (complete(2, 1), "objects.invalid_part_order"),
        (complete(1, 1), "objects.invalid_part_order"),
        (complete(1, 9), "objects.invalid_part"),
        (complete(), "objects.invalid_part"),
        (complete(parts=(ChosenPart(number=1, etag="wrong"),)), "objects.invalid_part"),
        (complete(parts=(ChosenPart(number=1, etag="p1", checksum="other"),)), "objects.invalid_part"),
        (complete(3, 4), "objects.part_too_small"),
        (complete(1, upload="f" * 32), "objects.no_such_upload"),
        (complete(1, key="other"), "objects.no_such_upload"),
    ],
)
def test_completion_is_refused_when_parts_do_not_fit(shard: Group, command: CompleteUpload, code: str) -> None:
    shard.send(create())
    for n in (1, 2):
        shard.send(part(n))
    for n in (3, 4):
        shard.send(part(n, 10))
    with pytest.raises(DwError) as refused:
        shard.send(command)
    assert refused.value.code == code
    assert len(shard.ask(ListParts(bucket="b", key="k", upload=UPLOAD)).parts) == 4


def test_completion_succeeds_again_when_its_work_is_done(shard: Group) -> None:
    shard.send(create())
    shard.send(part(1))
    shard.send(complete(1))
    assert shard.send(complete(1)).size == PART_BYTES_MIN


def test_replaced_part_is_collected(shard: Group) -> None:
    shard.send(create())
    shard.send(part(1))
    assert shard.send(part(1, name=7)).existed
    assert drain_all(shard) == [1]
    assert [p.etag for p in shard.ask(ListParts(bucket="b", key="k", upload=UPLOAD)).parts] == ["p7"]


@pytest.mark.parametrize(
    "ending",
    [
        AbortUpload(bucket="b", key="k", upload=UPLOAD),
        ExpireAbandoned(lists_before=Stamp(0), uploads_before=FAR, limit=10),
    ],
)
def test_upload_leaves_nothing_when_aborted_or_expired(shard: Group, ending: Any) -> None:
    shard.send(create())
    for n in (1, 2):
        shard.send(part(n))
    assert shard.ask(GetUsage(bucket="b")).buckets[0].uploads == 1
    shard.send(ending)
    with pytest.raises(NotFound):
        shard.send(part(3))
    assert drain_all(shard) == [1, 2]
    assert shard.ask(GetUsage(bucket="b")).buckets == ()
    for table in ("blocks", "lists", "list_rows", "parts", "drains"):
        assert shard.sql(f"SELECT count(*) FROM {table}") == [(0,)], table


def test_uploads_are_listed_in_order_with_markers(shard: Group) -> None:
    names = [(key, f"{n:032x}") for key in ("a", "d/x", "d/y", "e") for n in (1, 2)]
    for key, upload in reversed(names):
        shard.send(create(upload=f"{hash_of(key)}{upload[8:]}", key=key))
    listed = shard.ask(ListUploads(bucket="b"))
    assert [u.key for u in listed.uploads] == ["a", "a", "d/x", "d/x", "d/y", "d/y", "e", "e"]
    first = listed.uploads[0]
    rest = shard.ask(ListUploads(bucket="b", after_key=first.key, after_upload=first.upload, limit=2))
    assert (rest.uploads, rest.truncated) == (listed.uploads[1:3], True)
    assert next(u.key for u in shard.ask(ListUploads(bucket="b", after_key="a")).uploads) == "d/x"
    rolled = shard.ask(ListUploads(bucket="b", delimiter="/"))
    assert ([u.key for u in rolled.uploads], rolled.prefixes) == (["a", "a", "e", "e"], ("d/",))


def hash_of(key: str) -> str:
    return key.encode().hex().ljust(8, "0")[:8]
