"""Group commit: everything that waits is written as one batch and made durable by one fdatasync.

One worker thread owns the file. While it syncs, submissions gather; they are the next batch, and all of a batch are
released by one call into the event loop. The loop thread does the accounting, so the two share only a queue.

Invariants: batch n+1 is written only after the sync of batch n returned, so only the last batch of a journal can
be torn; sequences rise by one; whoever was told of an error has nothing in the journal; what was queued behind a
failed batch before anybody could know fails with it, so a journal never holds a later part without the earlier.
Hazard: after a failed sync nobody knows what the device holds (dwd.runtime.os_files). The writer then refuses for
ever and calls `on_fatal`: the node must stop and recover from what can be read back.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from dwd.base.errors import Busy, DwError, InvalidArgument, InvariantViolation, StorageFailed
from dwd.base.units import MIB
from dwd.journal.appender import Appender
from dwd.journal.frames import (
    BATCH_ALIGNMENT,
    BATCH_HEADER_BYTES,
    FRAME_BYTES_MAX,
    FRAMES_PER_BATCH_MAX,
    Frame,
    Position,
    frame_bytes,
)
from dwd.journal.segments import HEADER_BYTES
from dwd.runtime.mailbox import Mailbox, StartWorker, start_thread

QUEUE_BYTES_MAX = 64 * MIB
QUEUE_FRAMES_MAX = 65_536
BATCH_TARGET_BYTES = 16 * MIB
"""A batch stops growing here; a single submission may be this large."""

Done = Callable[[Sequence[Position], DwError | None], None]


@dataclass(slots=True, kw_only=True)
class _Submission:
    frames: Sequence[Frame]
    bytes: int
    note: object
    done: Done | None
    future: asyncio.Future[Sequence[Position]]
    epoch: int
    positions: Sequence[Position] = field(default=())


class GroupCommitWriter:
    """Appends frames to a journal. All methods are called on the event loop's thread."""

    def __init__(
        self,
        *,
        appender: Appender,
        name: str,
        on_fatal: Callable[[DwError], None],
        queue_bytes_max: int = QUEUE_BYTES_MAX,
        queue_frames_max: int = QUEUE_FRAMES_MAX,
        batch_bytes_target: int = BATCH_TARGET_BYTES,
        start_worker: StartWorker = start_thread,
    ) -> None:
        """`on_fatal` is called on the loop, once, when a sync failed."""
        room = appender.policy.segment_bytes - HEADER_BYTES
        if batch_bytes_target + BATCH_HEADER_BYTES + BATCH_ALIGNMENT > room or queue_frames_max > FRAMES_PER_BATCH_MAX:
            raise InvalidArgument("journal.limits", "the largest batch must fit a segment and its frames one batch")
        self._appender = appender
        self._name = name
        self._on_fatal = on_fatal
        self._queue_bytes_max = queue_bytes_max
        self._queue_frames_max = queue_frames_max
        self._batch_bytes_target = batch_bytes_target
        self._queued_bytes = 0
        self._queued_frames = 0
        self._dead: DwError | None = None
        self._fatal_told = False
        self._epoch = 0
        """Rises on the loop when it learns of a failed batch."""
        self._failed_epoch = -1
        """On the worker: submissions of this epoch or before were queued behind a failed batch."""
        self._failure: DwError | None = None
        self._closed: asyncio.Future[None] | None = None
        self._loop = asyncio.get_running_loop()
        self._queue: Mailbox[_Submission | None] = start_worker(f"journal-{name}", self._turn)

    async def append(self, frames: Sequence[Frame]) -> Sequence[Position]:
        """Positions of the payloads once all of `frames` is durable; they lie in one batch, in order.

        Cancelling the waiter does not take the frames back. Raises Busy, NoSpace (nothing was written, later
        appends work once there is space), StorageFailed, InvalidArgument (too large).
        """
        return await self.submit(frames)

    def submit(
        self, frames: Sequence[Frame], *, note: object = None, done: Done | None = None
    ) -> asyncio.Future[Sequence[Position]]:
        """Queue `frames` now; the future is as `append`. `note` goes to the policy's `committed`. `done` is called on
        the loop with the outcome, in order of submission, even when the future was cancelled.
        """
        size = sum(map(frame_bytes, frames))
        self._admit(frames, size)
        future = self._loop.create_future()
        self._queued_bytes += size
        self._queued_frames += len(frames)
        self._queue.put(_Submission(frames=frames, bytes=size, note=note, done=done, future=future, epoch=self._epoch))
        return future

    async def close(self) -> None:
        """Write what is queued, stop the thread, close the file. Later appends raise StorageFailed."""
        if self._closed is None:
            self._closed = self._loop.create_future()
            self._dead = self._dead or StorageFailed("journal.closed", f"journal {self._name} is closed")
            self._queue.put(None)
        await asyncio.shield(self._closed)

    @property
    def queued_bytes(self) -> int:
        return self._queued_bytes

    def _admit(self, frames: Sequence[Frame], size: int) -> None:
        if self._dead is not None:
            raise self._dead
        if not frames or size > self._batch_bytes_target or any(frame_bytes(f) > FRAME_BYTES_MAX for f in frames):
            raise InvalidArgument("journal.append_size", f"an append of {len(frames)} frames and {size} bytes")
        if self._queued_bytes + size > self._queue_bytes_max or (
            self._queued_frames + len(frames) > self._queue_frames_max
        ):
            raise Busy("journal.queue_full", f"journal {self._name} has {self._queued_bytes} bytes waiting")

    def _turn(self, first: _Submission | None, more: Callable[[], _Submission | None]) -> bool:
        """The worker: take what waits, make it durable, release it."""
        while first is not None:
            batch, first, last = self._gather(first, more)
            error = self._write(batch)
            self._call(self._release, batch, error)
            if last:
                break
            if first is None:
                return True
        self._appender.close()
        self._call(self._finish)
        return False

    def _gather(
        self, first: _Submission, more: Callable[[], _Submission | None]
    ) -> tuple[list[_Submission], _Submission | None, bool]:
        """What goes into one batch, the submission that did not fit any more, and whether closing was asked for."""
        batch, size = [first], first.bytes
        while True:
            try:
                following = more()
            except queue.Empty:
                return batch, None, False
            if following is None:
                return batch, None, True
            if size + following.bytes > self._batch_bytes_target or following.epoch != first.epoch:
                return batch, following, False
            batch.append(following)
            size += following.bytes

    def _write(self, batch: list[_Submission]) -> DwError | None:
        if self._failure is not None and batch[0].epoch <= self._failed_epoch:
            return self._failure
        frames = [frame for submission in batch for frame in submission.frames]
        try:
            positions = self._appender.append(frames, [s.note for s in batch if s.note is not None])
        except DwError as error:
            self._failure = error
        except Exception as error:  # noqa: BLE001 - a bug here must not leave everyone waiting for ever
            self._failure = InvariantViolation(f"journal {self._name}: {error!r}")
            self._appender.fail(self._failure)
        else:
            start = 0
            for submission in batch:
                end = start + len(submission.frames)
                submission.positions = positions[start:end]
                start = end
            return None
        self._failed_epoch = batch[-1].epoch
        return self._failure

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        """Into the loop; a loop that is gone has nobody left to tell."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function, *arguments)

    def _release(self, batch: list[_Submission], error: DwError | None) -> None:
        fatal = self._appender.failed
        if fatal is not None and not self._fatal_told:
            self._dead, self._fatal_told = fatal, True
            self._on_fatal(fatal)
        if error is not None:
            self._epoch = max(self._epoch, batch[-1].epoch + 1)
        for submission in batch:
            self._queued_bytes -= submission.bytes
            self._queued_frames -= len(submission.frames)
            if submission.done is not None:
                submission.done(submission.positions, error)
            if submission.future.done():
                continue
            if error is None:
                submission.future.set_result(submission.positions)
            else:
                submission.future.set_exception(error)
                submission.future.exception()  # who passed `done` need not look at the future: no warning about it

    def _finish(self) -> None:
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)
