"""What the commands of a shard share: the transaction, the counts of a batch, the gates of buckets.

Counts (usage per bucket, blocks per layout, totals) are summed up in memory and written once a batch. A row whose
counts are all zero does not exist, so the tables depend on the entries alone, not on how they were cut into batches.
"""

from __future__ import annotations

from dwd.base.errors import Busy, Conflict, InvalidArgument, InvariantViolation
from dwd.base.ids import LayoutEpoch
from dwd.base.limits import KEY_BYTES_MAX
from dwd.meta.core.shard.commands import SALT_BYTES_MAX, SEALING_BYTES_MAX
from dwd.meta.core.tx import Tx

BUCKET_NAME_BYTES_MAX = 255
HEADERS_BYTES_MAX = 16 * 1024
ETAG_CHARACTERS_MAX = 128
CHECKSUM_CHARACTERS_MAX = 512
GATES_MAX = 10_000
"""Gates kept in memory; past it the cache starts anew."""

_OPEN = (0, False)


class Shard:
    """One batch after another on one database; only the batch's own thread touches it."""

    def __init__(self, tx: Tx) -> None:
        self.tx = tx
        self._usage: dict[str, list[int]] = {}
        self._layouts: dict[int, int] = {}
        self._counters: dict[str, int] = {}
        self._gates: dict[str, tuple[int, bool]] = {}
        self._layout_fence: int | None = None

    def use(
        self, bucket: str, *, objects: int = 0, size: int = 0, uploads: int = 0, packed: int = 0, stored: int = 0
    ) -> None:
        """`packed` of the bytes of objects became `stored` bytes of blocks."""
        counts = self._usage.setdefault(bucket, [0, 0, 0, 0, 0])
        counts[0] += objects
        counts[1] += size
        counts[2] += uploads
        counts[3] += packed
        counts[4] += stored

    def use_layout(self, epoch: LayoutEpoch, blocks: int) -> None:
        """Rows of `blocks` and `gc` that name the layout."""
        self._layouts[epoch] = self._layouts.get(epoch, 0) + blocks

    def count(self, counter: str, change: int) -> None:
        self._counters[counter] = self._counters.get(counter, 0) + change

    def flush(self) -> None:
        """Write the counts of the batch."""
        tx = self.tx
        if self._usage:
            for bucket, counts in self._usage.items():
                tx.run(
                    "INSERT INTO buckets VALUES (?1, 0, 0, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET"
                    " objects = objects + ?2, bytes = bytes + ?3, uploads = uploads + ?4, packed = packed + ?5,"
                    " stored = stored + ?6",
                    (bucket, *counts),
                )
                tx.run(
                    "DELETE FROM buckets WHERE bucket = ? AND epoch = 0 AND objects = 0 AND bytes = 0 AND uploads = 0"
                    " AND packed = 0 AND stored = 0",
                    (bucket,),
                )
            self._usage.clear()
        if self._layouts:
            for epoch, blocks in self._layouts.items():
                tx.run(
                    "INSERT INTO layout_use VALUES (?1, ?2) ON CONFLICT DO UPDATE SET blocks = blocks + ?2",
                    (epoch, blocks),
                )
                tx.run("DELETE FROM layout_use WHERE layout_epoch = ? AND blocks = 0", (epoch,))
            self._layouts.clear()
        if self._counters:
            for name, change in self._counters.items():
                tx.run("UPDATE counters SET value = value + ? WHERE name = ?", (change, name))
            self._counters.clear()

    def layout_fence(self) -> int:
        """Layouts below it must not be named anew."""
        if self._layout_fence is None:
            row = self.tx.row("SELECT value FROM counters WHERE name = 'layout_fence'")
            self._layout_fence = 0 if row is None else int(row[0])
        return self._layout_fence

    def fence_layouts(self, below: LayoutEpoch) -> None:
        self.tx.run("UPDATE counters SET value = max(value, ?) WHERE name = 'layout_fence'", (below,))
        self._layout_fence = None

    def set_gate(self, bucket: str, epoch: int, *, sealed: bool) -> None:
        self.tx.run(
            "INSERT INTO buckets VALUES (?1, ?2, ?3, 0, 0, 0, 0, 0) ON CONFLICT DO UPDATE SET epoch = ?2, sealed = ?3",
            (bucket, epoch, int(sealed)),
        )
        self._gates.pop(bucket, None)

    def gate(self, bucket: str) -> tuple[int, bool]:
        """(epoch, sealed)."""
        known = self._gates.get(bucket)
        if known is None:
            row = self.tx.row("SELECT epoch, sealed FROM buckets WHERE bucket = ?", (bucket,))
            known = _OPEN if row is None else (row[0], bool(row[1]))
            if len(self._gates) >= GATES_MAX:
                self._gates.clear()
            self._gates[bucket] = known
        return known

    def admit(self, bucket: str, key: bytes, epoch: int) -> None:
        """May (bucket, key) be written by someone who saw the bucket at `epoch`? Raises if not."""
        if not 0 < len(key) <= KEY_BYTES_MAX:
            raise InvalidArgument("meta.key_length", f"a key has 1 to {KEY_BYTES_MAX} bytes of UTF-8")
        if not bucket or len(bucket) > BUCKET_NAME_BYTES_MAX or "\0" in bucket:
            raise InvalidArgument("meta.bucket_name", "not a bucket name")
        newest, sealed = self.gate(bucket)
        if epoch < newest:
            raise Conflict("meta.bucket_stale", f"bucket {bucket} changed meanwhile", epoch=newest)
        if sealed and epoch == newest:
            raise Busy("meta.bucket_sealed", f"bucket {bucket} is being deleted")


def check_facts(*, size: int, etag: str, headers: bytes, checksum: str) -> None:
    """Bounds of what a client says about an object or part."""
    if size < 0:
        raise InvalidArgument("meta.size", "a size is not negative")
    if len(headers) > HEADERS_BYTES_MAX:
        raise InvalidArgument("meta.headers_length", f"headers take more than {HEADERS_BYTES_MAX} bytes")
    if len(etag) > ETAG_CHARACTERS_MAX or len(checksum) > CHECKSUM_CHARACTERS_MAX:
        raise InvalidArgument("meta.facts_length", "an etag or checksum is too long")


def check_sealing(sealing: bytes, salt: bytes = b"") -> None:
    """Bounds of what says how an object's bytes are sealed."""
    if len(sealing) > SEALING_BYTES_MAX or len(salt) > SALT_BYTES_MAX:
        raise InvalidArgument("meta.sealing_length", "what says how bytes are sealed is too long")


def require_one(changed: int, what: str) -> None:
    """A statement that must have changed one row."""
    if changed != 1:
        raise InvariantViolation(f"{what}: {changed} rows changed instead of one")
