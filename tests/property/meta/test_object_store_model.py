"""A shard against a dictionary: whatever is put, copied, deleted, uploaded, listed, the two agree; counts are exact,
and the collector gets exactly the blocks nobody names.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dwd.base.errors import DwError
from dwd.base.ids import Stamp
from dwd.meta.core.shard.commands import (
    PART_BYTES_MIN,
    AbortUpload,
    ChosenPart,
    CompleteUpload,
    CopyInsideShard,
    CreateUpload,
    DeleteObject,
    Drain,
    DropStaged,
    Precondition,
    PutObject,
    PutPart,
    ReplaceBlock,
    StageBlocks,
)
from dwd.meta.core.shard.queries import BlockPage, GcPage, GetCounts, GetObject, GetUsage, ListObjects
from tests.twins.meta_group import Group, block

FAR = Stamp(1 << 62)
KEYS = st.sampled_from(["a", "a/b", "a/c/d", "b", "ä/1", "ä/2", "z"])
Content = tuple[int, ...] | bytes


class ObjectStore(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="dwd-meta-"))
        self.shard = Group(self.directory)
        self.objects: dict[str, tuple[str, Content, int]] = {}
        self.uploads: dict[str, tuple[str, dict[int, tuple[int, int]]]] = {}
        self.staged: dict[int, tuple[str, list[int]]] = {}
        self.made = 0
        self.replaced: dict[int, int] = {}
        self.next = 0

    def fresh(self) -> int:
        self.next += 1
        return self.next

    def new_blocks(self, count: int, length: int = 100) -> tuple[Any, ...]:
        numbers = [self.fresh() for _ in range(count)]
        self.made += count
        return tuple(block(n, length) for n in numbers)

    @initialize()
    def begin(self) -> None:
        self.send(CreateUpload(bucket="b", key="a", bucket_epoch=1, upload=f"{self.fresh():032x}"))
        self.uploads[f"{self.next:032x}"] = ("a", {})

    def send(self, command: Any) -> Any:
        return self.shard.send(command)

    @rule(key=KEYS, data=st.binary(max_size=50))
    def put_inline(self, key: str, data: bytes) -> None:
        etag = f"e{self.fresh()}"
        receipt = self.send(PutObject(bucket="b", key=key, bucket_epoch=1, size=len(data), etag=etag, inline=data))
        assert receipt.existed == (key in self.objects)
        self.objects[key] = (etag, data, len(data))

    @rule(key=KEYS, count=st.integers(1, 4), only_new=st.booleans())
    def put_blocks(self, key: str, count: int, only_new: bool) -> None:
        etag, blocks = f"e{self.fresh()}", self.new_blocks(count)
        condition = Precondition(if_none_match=("*",)) if only_new else Precondition()
        command = PutObject(
            bucket="b", key=key, bucket_epoch=1, size=100 * count, etag=etag, blocks=blocks, precondition=condition
        )
        try:
            self.send(command)
        except DwError as error:
            assert error.code == "objects.precondition_failed"  # noqa: PT017 - both outcomes are lawful
            assert only_new
            assert key in self.objects
            self.made -= count
            return
        assert not (only_new and key in self.objects)
        self.objects[key] = (etag, tuple(b.crc32c for b in blocks), 100 * count)

    @rule(key=KEYS, count=st.integers(1, 3))
    def stage(self, key: str, count: int) -> None:
        staged, blocks = self.fresh(), self.new_blocks(count)
        self.send(StageBlocks(bucket="b", key=key, bucket_epoch=1, staged=staged, position=0, blocks=blocks))
        self.staged[staged] = (key, [b.crc32c for b in blocks])

    @precondition(lambda self: self.staged)
    @rule(data=st.data(), count=st.integers(0, 2), drop=st.booleans())
    def end_staging(self, data: Any, count: int, drop: bool) -> None:
        staged = data.draw(st.sampled_from(sorted(self.staged)))
        key, numbers = self.staged.pop(staged)
        if drop:
            assert self.send(DropStaged(bucket="b", key=key, staged=staged)).existed
            return
        blocks, etag = self.new_blocks(count), f"e{self.fresh()}"
        size = 100 * (len(numbers) + count)
        self.send(PutObject(bucket="b", key=key, bucket_epoch=1, size=size, etag=etag, blocks=blocks, staged=staged))
        self.objects[key] = (etag, (*numbers, *(b.crc32c for b in blocks)), size)

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        receipt = self.send(DeleteObject(bucket="b", key=key, bucket_epoch=1))
        assert receipt.existed == (self.objects.pop(key, None) is not None)

    @rule(source=KEYS, onto=KEYS)
    def copy(self, source: str, onto: str) -> None:
        found = self.objects.get(source)
        command = CopyInsideShard(
            bucket="b", key=onto, bucket_epoch=1, source_bucket="b", source_key=source,
            source_etag=found[0] if found else "none", headers=b"new",
        )  # fmt: skip
        try:
            self.send(command)
        except DwError as error:
            assert error.code == ("objects.no_such_key" if found is None else "meta.copy_inline")  # noqa: PT017 - both outcomes are lawful
            assert found is None or isinstance(found[1], bytes)
            return
        assert found is not None
        self.objects[onto] = found

    @rule(key=KEYS)
    def create_upload(self, key: str) -> None:
        upload = f"{self.fresh():032x}"
        self.send(CreateUpload(bucket="b", key=key, bucket_epoch=1, upload=upload))
        self.uploads[upload] = (key, {})

    @precondition(lambda self: self.uploads)
    @rule(data=st.data(), number=st.integers(1, 3))
    def put_part(self, data: Any, number: int) -> None:
        upload = data.draw(st.sampled_from(sorted(self.uploads)))
        key, parts = self.uploads[upload]
        (only,) = self.new_blocks(1, PART_BYTES_MIN)
        self.send(
            PutPart(
                bucket="b", key=key, bucket_epoch=1, upload=upload, number=number, size=PART_BYTES_MIN,
                etag=f"p{only.crc32c}", staged=self.fresh(), blocks=(only,),
            )
        )  # fmt: skip
        parts[number] = (only.crc32c, PART_BYTES_MIN)

    @precondition(lambda self: self.uploads)
    @rule(data=st.data(), abort=st.booleans())
    def end_upload(self, data: Any, abort: bool) -> None:
        upload = data.draw(st.sampled_from(sorted(self.uploads)))
        key, parts = self.uploads[upload]
        if abort or not parts:
            self.send(AbortUpload(bucket="b", key=key, upload=upload))
            del self.uploads[upload]
            return
        chosen = sorted(data.draw(st.sets(st.sampled_from(sorted(parts)), min_size=1)))
        etag = f"e{self.fresh()}"
        self.send(
            CompleteUpload(
                bucket="b", key=key, bucket_epoch=1, upload=upload, etag=etag,
                parts=tuple(ChosenPart(number=n, etag=f"p{parts[n][0]}") for n in chosen),
            )
        )  # fmt: skip
        del self.uploads[upload]
        self.objects[key] = (etag, tuple(parts[n][0] for n in chosen), PART_BYTES_MIN * len(chosen))

    @rule(data=st.data(), wanted=st.sampled_from(["", "rs-6-3"]))
    def store_anew(self, data: Any, wanted: str) -> None:
        """The same bytes under another profile: whoever named the block still finds them."""
        rows = [b.stored for b in self.shard.ask(BlockPage(first=0, last=0xFFFF, limit=1000)).blocks]
        if not rows:
            return
        old = data.draw(st.sampled_from(rows))
        new = replace(old, block=block(self.fresh()).block, profile="replica-3", wanted=wanted)
        self.made += 1
        self.send(ReplaceBlock(old=old, new=new))
        self.replaced[old.crc32c] = self.replaced.get(old.crc32c, 0) + 1

    @rule(limit=st.integers(1, 5))
    def drain(self, limit: int) -> None:
        self.send(Drain(limit=limit))

    @rule()
    def reopen(self) -> None:
        sequence = self.shard.sequence
        self.shard.close()
        self.shard = Group(self.directory)
        self.shard.sequence = sequence

    @rule(prefix=st.sampled_from(["", "a", "a/", "ä/"]), after=st.sampled_from(["", "a/b", "a/", "b"]))
    def list_matches(self, prefix: str, after: str) -> None:
        page = self.shard.ask(ListObjects(bucket="b", prefix=prefix, after=after))
        wanted = sorted((k for k in self.objects if k.startswith(prefix) and k > after), key=str.encode)
        assert [o.key for o in page.objects] == wanted

    @invariant()
    def objects_match(self) -> None:
        for key, (etag, content, size) in self.objects.items():
            answer = self.shard.ask(GetObject(bucket="b", key=key))
            assert answer.object is not None
            assert (answer.object.etag, answer.object.size) == (etag, size)
            found = answer.inline if isinstance(content, bytes) else tuple(b.owned.stored.crc32c for b in answer.blocks)
            assert found == content

    @invariant()
    def counts_are_exact(self) -> None:
        usage = self.shard.ask(GetUsage(bucket="b")).buckets
        sizes = [size for _, _, size in self.objects.values()]
        found = (usage[0].objects, usage[0].bytes, usage[0].uploads) if usage else (0, 0, 0)
        assert found == (len(sizes), sum(sizes), len(self.uploads))
        counts = self.shard.ask(GetCounts())
        assert counts.blocks + counts.gc_waiting == self.made, "no block is ever lost or made up"
        assert sum(e.blocks for e in counts.epochs) == counts.blocks + counts.gc_waiting

    def teardown(self) -> None:
        while self.send(Drain(limit=100)).more:
            pass
        self.send(Drain(limit=100))
        named = {n for _, content, _ in self.objects.values() if not isinstance(content, bytes) for n in content}
        named |= {number for _, numbers in self.staged.values() for number in numbers}
        named |= {number for _, parts in self.uploads.values() for number, _ in parts.values()}
        kept = {b.stored.crc32c for b in self.shard.ask(BlockPage(first=0, last=0xFFFF, limit=1000)).blocks}
        given_up = [r.stored.crc32c for r in self.shard.ask(GcPage(before=FAR, limit=1000)).rows]
        assert kept == named
        assert len(kept) + len(given_up) == self.made
        for number, times in self.replaced.items():
            assert given_up.count(number) == times + (number not in kept), "each place it was stored at is collected"
        assert all(number in self.replaced for number in kept.intersection(given_up))
        names = {name for (name,) in self.shard.sql("SELECT name FROM blocks WHERE name IS NOT NULL")}
        assert {name for (name,) in self.shard.sql("SELECT name FROM renamed")} == names
        self.shard.close()
        shutil.rmtree(self.directory)


TestObjectStore = ObjectStore.TestCase
TestObjectStore.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
