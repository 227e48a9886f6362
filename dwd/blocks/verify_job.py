"""The job `cluster.verify`: every device is asked for every fragment that should exist, whatever rows and reports say.

What is missing or bad is handed to repair as it is found. The cursor holds where the next page begins and what was
counted so far, so that another runner goes on without counting anything twice.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from dwd.base.clock import Clock
from dwd.base.errors import InvalidArgument
from dwd.base.ids import BlockId, GroupId
from dwd.blocks.ports import Owner
from dwd.blocks.recount import BlockState, FragmentState, Recount
from dwd.blocks.reports import Reports
from dwd.jobs.kinds import JobPlan, RunningJob
from dwd.meta.client import MetaClient
from dwd.meta.core.shard.queries import FROM_THE_START, BlockPage, GetCounts
from dwd.meta.core.shard.rows import OwnedBlock

PAGE = 256
PAGE_SECONDS = 60.0
PLACEMENT_MAX = 0xFFFF
PAGES = "pages"
YES, NO = "yes", "no"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """What was counted so far, and where to go on: after `after` in `group`; 0: no shard was begun yet."""

    group: int = 0
    after: str = ""
    blocks_done: int = 0
    fragments_expected: int = 0
    fragments_found: int = 0
    fragments_bad: int = 0
    blocks_degraded: int = 0
    blocks_unreadable: int = 0
    blocks_unknown: int = 0

    def encode(self) -> bytes:
        return json.dumps(dataclasses.asdict(self), separators=(",", ":")).encode()

    @classmethod
    def decode(cls, encoded: bytes) -> Tally:
        return cls(**json.loads(encoded)) if encoded else cls()

    def facts(self) -> str:
        """For `JobInfo.result`: the counts as JSON."""
        counted = dataclasses.asdict(self) | {"blocks_total": self.blocks_done, "finished": True}
        del counted["group"], counted["after"]
        return json.dumps(counted, separators=(",", ":"))

    def count(self, state: BlockState) -> Tally:
        kinds = [kind for _, kind in state.fragments]
        away = FragmentState.AWAY in kinds
        return replace(
            self,
            blocks_done=self.blocks_done + 1,
            fragments_expected=self.fragments_expected + len(kinds),
            fragments_found=self.fragments_found + kinds.count(FragmentState.SOUND),
            fragments_bad=self.fragments_bad + kinds.count(FragmentState.BAD),
            blocks_degraded=self.blocks_degraded + (not state.redundant),
            blocks_unreadable=self.blocks_unreadable + (state.losses_left < 0 and not away),
            blocks_unknown=self.blocks_unknown + away,
        )


class VerifyKind:
    """`JobKind`; one step."""

    name = "cluster.verify"

    def __init__(self, *, meta: MetaClient, recount: Recount, found: Reports, clock: Clock) -> None:
        self._meta = meta
        self._recount = recount
        self._found = found
        self._clock = clock

    async def plan(self, arguments: Mapping[str, str], *, force: bool) -> JobPlan:  # noqa: ARG002 - nothing to override
        if set(arguments) - {PAGES} or arguments.get(PAGES, NO) not in {YES, NO}:
            raise InvalidArgument("verify.arguments", f"cluster.verify takes {PAGES}={YES} or {PAGES}={NO}")
        deadline = self._clock.monotonic() + PAGE_SECONDS
        blocks = 0
        for group in self._meta.shards():
            blocks += (await self._meta.read_group(group, GetCounts(), deadline=deadline)).blocks
        checked = "read and check every fragment" if arguments.get(PAGES) == YES else "ask for every fragment"
        return JobPlan(
            steps=("count",),
            lines=(f"{checked} on every device; what is missing or bad is handed to repair",),
            estimates=(f"{blocks:,} blocks",),
            total=blocks,
            unit="blocks",
        )

    async def run(self, job: RunningJob) -> None:
        tally = Tally.decode(job.cursor)
        verify = job.arguments.get(PAGES) == YES
        for group in sorted(self._meta.shards()):
            if group < tally.group:
                continue
            tally = tally if group == tally.group else replace(tally, group=group, after="")
            tally = await self._count_shard(job, group, tally, verify=verify)
        job.conclude(tally.facts())
        await job.report(done=tally.blocks_done, total=tally.blocks_done, cursor=tally.encode())

    async def _count_shard(self, job: RunningJob, group: GroupId, tally: Tally, *, verify: bool) -> Tally:
        after, more = BlockId(bytes.fromhex(tally.after)) or FROM_THE_START, True
        while more:
            deadline = self._clock.monotonic() + PAGE_SECONDS
            page = await self._meta.read_group(
                group, BlockPage(first=0, last=PLACEMENT_MAX, after=after, limit=PAGE), deadline=deadline
            )
            rows = [owned.stored for owned in page.blocks]
            states = await self._recount.recount(rows, verify=verify, deadline=deadline)
            for owned, state in zip(page.blocks, states, strict=True):
                tally = tally.count(state)
                self._hand_on(owned, state)
            more = page.more and bool(rows)
            after = rows[-1].block if rows else after
            tally = replace(tally, after=after.hex())
            await job.report(done=tally.blocks_done, cursor=tally.encode())
        return tally

    def _hand_on(self, owned: OwnedBlock, state: BlockState) -> None:
        for index, (device, kind) in enumerate(state.fragments):
            if device is not None and kind in {FragmentState.BAD, FragmentState.MISSING}:
                owner = Owner(bucket=owned.bucket, key=owned.key)
                self._found.add(owned.stored, owner, index, f"recount_{kind.value}")

    async def verify(self, job: RunningJob) -> None:
        """The count is the answer."""

    async def cancelled(self, job: RunningJob) -> None:
        """It changed nothing."""
