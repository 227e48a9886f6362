"""The job `bucket.profile`: a bucket gets another policy, and what it holds is stored anew under it, while it is used.

Steps: the policy is set in control; every shard that owns keys of the bucket is told its new epoch, so that nobody
writes by the old policy any more (what was already written by it is taken in saying what it should be, and stored anew
later); then all block rows are walked, and what is stored otherwise is stored anew, paced, some blocks side by side.
Objects inside their commands have no blocks and stay as they are.

Idempotent: a block that is as it should be is passed over, so a runner may begin again anywhere. A block that was
deleted, overwritten or repaired meanwhile is left to whoever did that; passes are repeated until one finds nothing to
do. Blocks that cannot be read now are counted, do not stop the rest, and fail the job at its end by name.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from dwd.base.blocks import StoredBlock
from dwd.base.clock import Clock
from dwd.base.errors import Conflict, Corrupt, DwError, InvalidArgument, NotFound, Unavailable
from dwd.base.ids import BlockId, GroupId
from dwd.base.limits import BLOCK_BYTES
from dwd.base.policy import AUTO, CRITICALITIES, TIERS, Policy, tier_name
from dwd.base.units import format_bytes
from dwd.blocks.core.choice import Choice, validate
from dwd.blocks.policies import choice_on, layout_domains, tier_of
from dwd.blocks.reencode import Anew, Reencoder
from dwd.blocks.store import ErasureBlockStore
from dwd.blocks.topology import Topology
from dwd.jobs.kinds import JobPlan, LeaseLost, RunningJob
from dwd.meta.client import MetaClient
from dwd.meta.core.control.commands import SetBucketPolicy
from dwd.meta.core.control.queries import GetBucket
from dwd.meta.core.control.rows import BucketRow, BucketState
from dwd.meta.core.shard.commands import ReplaceBlock, UnsealBucket, UpdateBlock
from dwd.meta.core.shard.queries import FROM_THE_START, BucketBlocks, GetCounts, GetUsage
from dwd.meta.core.shard.rows import OwnedBlock
from dwd.runtime.pacing import TokenBucket

CALL_SECONDS = 20.0
BLOCK_SECONDS = 60.0
SCAN_ROWS = 256
"""Rows of a page: so many blocks may be walked again by another runner."""
AT_ONCE = 2
"""Blocks stored anew side by side: each holds the block and its fragments in memory."""
PASSES_MAX = 16
UNREADABLE_SHOWN = 5

SET, TELL, STORE = "set the policy", "tell the shards", "store anew"
ARGUMENTS = frozenset({"bucket", "profile", "tier", "criticality", "fallback", "convert"})
_FLAGS = {"yes": True, "no": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """Where the walk stands, and what it did. `changed`: blocks this pass found otherwise than they should be."""

    group: int = 0
    after: str = ""
    passes: int = 0
    walked: int = 0
    changed: int = 0
    stored: int = 0
    stored_bytes: int = 0
    unreadable: tuple[str, ...] = ()
    unreadable_count: int = 0

    def encode(self) -> bytes:
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def decode(cls, encoded: bytes) -> Walk:
        if not encoded:
            return cls()
        found = json.loads(encoded)
        return cls(**{**found, "unreadable": tuple(found["unreadable"])})


class ProfileKind:
    """`JobKind`."""

    name = "bucket.profile"

    def __init__(
        self,
        *,
        meta: MetaClient,
        store: ErasureBlockStore,
        topology: Topology,
        clock: Clock,
        bytes_per_second: int,
    ) -> None:
        self._meta, self._store, self._topology, self._clock = meta, store, topology, clock
        self._anew = Reencoder(store)
        self._bytes = TokenBucket(clock, rate=bytes_per_second, burst=max(bytes_per_second, BLOCK_BYTES))

    async def plan(self, arguments: Mapping[str, str], *, force: bool) -> JobPlan:  # noqa: ARG002 - nothing to override
        row = await self._bucket(arguments.get("bucket", ""))
        policy, convert = wished(row.policy, arguments)
        layout, topology = self._topology.layout(), self._meta.view.topology()
        domains, tier = layout_domains(layout), tier_of(topology)
        before, after = choice_on(row.policy, layout, topology), validate(policy, domains, tier)
        total = 0
        for group in self._meta.holders(row.name) if convert else ():
            total += (await self._meta.read_group(group, GetCounts(), deadline=self._soon())).blocks
        return JobPlan(
            steps=(SET, TELL, STORE) if convert else (SET, TELL),
            lines=(
                f"bucket {row.name}: {_describe(row.policy, before)} becomes {_describe(policy, after)}",
                *(f"  {reason}" for reason in after.reasons),
                f"a byte takes {before.profile.overhead:.2f} bytes on devices now, {after.profile.overhead:.2f} then",
                f"{before.profile.losses_survived} losses are survived now, {after.profile.losses_survived} then",
                "what it holds is stored anew, readable throughout" if convert else "what it holds stays as it is",
            ),
            warnings=_warnings(before, after),
            estimates=(await self._held(row.name, total),) if convert else (),
            total=total,
            unit="blocks",
            details=json.dumps({"epoch": row.epoch}, separators=(",", ":")).encode(),
        )

    async def run(self, job: RunningJob) -> None:
        if job.step_name == SET:
            await self._set(job)
        elif job.step_name == TELL:
            await self._tell(job)
        else:
            await self._store_anew(job)

    async def verify(self, job: RunningJob) -> None:
        """No block of the bucket is in another profile: counted by walking once more. What was taken in meanwhile is
        stored anew, and the walk begins again.
        """
        if STORE not in job.plan.steps:
            return
        walk = await self._pass(job, Walk())
        if walk.changed:
            raise Unavailable("bucket.profile_left", f"{walk.changed} blocks were taken in meanwhile; looking again")
        if walk.unreadable_count:
            raise _unreadable(walk)

    async def cancelled(self, job: RunningJob) -> None:
        """The policy stays, every block is readable in the profile it has; the job can be started again."""

    async def _set(self, job: RunningJob) -> None:
        row = await self._bucket(job.arguments["bucket"])
        policy, _ = wished(row.policy, job.arguments)
        await job.control(
            SetBucketPolicy(
                name=row.name,
                profile=policy.profile,
                tier=policy.tier,
                criticality=policy.criticality,
                allow_fallback=policy.allow_fallback,
                expected_epoch=json.loads(job.plan.details)["epoch"],
            )
        )

    async def _tell(self, job: RunningJob) -> None:
        _ = await self._present(job)
        row = await self._bucket(job.arguments["bucket"])
        for group in self._meta.holders(row.name):
            await job.shard(group, UnsealBucket(bucket=row.name, bucket_epoch=row.epoch))
        job.conclude(f"bucket {row.name} is written by {_words(row.policy)} from now on")

    async def _present(self, job: RunningJob) -> Policy:
        """The bucket's policy, which is still this job's. Raises Conflict, NotFound."""
        row = await self._bucket(job.arguments["bucket"])
        if wished(row.policy, job.arguments)[0] != row.policy:
            raise Conflict("bucket.policy_changed", f"somebody gave bucket {row.name} another policy meanwhile")
        return row.policy

    async def _store_anew(self, job: RunningJob) -> None:
        walk = Walk.decode(job.cursor)
        while True:
            walk = await self._pass(job, walk)
            if not walk.changed or walk.passes >= PASSES_MAX:
                break
            walk = replace(
                walk, group=0, after="", changed=0, passes=walk.passes + 1, unreadable=(), unreadable_count=0
            )
        job.conclude(f"{walk.stored:,} blocks, {format_bytes(walk.stored_bytes)}, stored anew")

    async def _pass(self, job: RunningJob, walk: Walk) -> Walk:
        """From where the walk stands over all rows of all shards that own keys of the bucket."""
        for group in sorted(self._meta.holders(job.arguments["bucket"])):
            if group < walk.group:
                continue
            walk = walk if group == walk.group else replace(walk, group=group, after="")
            more = True
            while more:
                policy = await self._present(job)
                page, ahead, more = await self._page(job, walk)
                walk = await self._convert(job, ahead, page, policy)
                done = min(walk.walked, job.plan.total) if not walk.passes else job.plan.total
                await job.report(done=done, cursor=walk.encode())
        return walk

    async def _page(self, job: RunningJob, walk: Walk) -> tuple[tuple[OwnedBlock, ...], Walk, bool]:
        after = BlockId(bytes.fromhex(walk.after)) if walk.after else FROM_THE_START
        query = BucketBlocks(bucket=job.arguments["bucket"], after=after, scan=SCAN_ROWS)
        answer = await self._meta.read_group(GroupId(walk.group), query, deadline=self._soon())
        moved = replace(walk, after=answer.next_after.hex(), walked=walk.walked + answer.scanned)
        return answer.blocks, moved, answer.more

    async def _convert(self, job: RunningJob, walk: Walk, page: tuple[OwnedBlock, ...], policy: Policy) -> Walk:
        """Store anew what needs it. Raises the first error that may pass, once the others had their turn."""
        due = [owned for owned in page if not self._is_as_it_should_be(owned.stored, policy)]
        gate = asyncio.Semaphore(AT_ONCE)
        passing: list[DwError] = []
        unreadable: list[str] = []
        stored: list[int] = []

        async def one(owned: OwnedBlock) -> None:
            async with gate:
                if any(isinstance(error, LeaseLost) for error in passing):
                    return
                try:
                    if await self._one(job, GroupId(walk.group), owned, policy):
                        stored.append(owned.stored.length)
                    await job.report()
                except Corrupt:
                    unreadable.append(owned.stored.block.hex())
                except DwError as error:
                    passing.insert(0 if isinstance(error, LeaseLost) else len(passing), error)

        async with asyncio.TaskGroup() as tasks:
            for owned in due:
                _ = tasks.create_task(one(owned))
        if passing:
            raise passing[0]
        return replace(
            walk,
            changed=walk.changed + len(due) - len(unreadable),
            stored=walk.stored + len(stored),
            stored_bytes=walk.stored_bytes + sum(stored),
            unreadable=(*walk.unreadable, *unreadable)[:UNREADABLE_SHOWN],
            unreadable_count=walk.unreadable_count + len(unreadable),
        )

    async def _one(self, job: RunningJob, group: GroupId, owned: OwnedBlock, policy: Policy) -> bool:
        """True: the block was stored anew."""
        old = owned.stored
        scheme, wanted = self._store.effective(policy, old.length)
        if old.profile == scheme.scheme:
            return await self._say(job, group, old, replace(old, wanted=wanted))
        pause = self._bytes.take(old.length)
        while pause:
            await job.wait(pause)
            pause = self._bytes.take(old.length)

        async def commit(before: StoredBlock, after: StoredBlock) -> None:
            await job.shard(group, ReplaceBlock(old=before, new=after))

        deadline = self._clock.monotonic() + BLOCK_SECONDS
        return await self._anew.reencode(owned, scheme, commit, wanted=wanted, deadline=deadline) is Anew.STORED

    async def _say(self, job: RunningJob, group: GroupId, old: StoredBlock, new: StoredBlock) -> bool:
        """The bytes are as they should be, the row says otherwise."""
        try:
            await job.shard(group, UpdateBlock(old=old, new=new))
        except LeaseLost:
            raise
        except (NotFound, Conflict):
            return False  # deleted, or repaired: the next pass finds it
        return False

    def _is_as_it_should_be(self, stored: StoredBlock, policy: Policy) -> bool:
        scheme, wanted = self._store.effective(policy, stored.length)
        return (stored.profile, stored.wanted) == (scheme.scheme, wanted)

    async def _bucket(self, name: str) -> BucketRow:
        """As control has it now. Raises NotFound, Conflict while it is being deleted."""
        row = (await self._meta.read(GetBucket(name=name), deadline=self._soon())).bucket
        if row is None:
            raise NotFound("objects.no_such_bucket", f"there is no bucket {name[:64]!r}")
        if row.state is not BucketState.ACTIVE:
            raise Conflict("meta.bucket_sealed", f"bucket {name} is being deleted")
        return row

    async def _held(self, bucket: str, rows: int) -> str:
        objects = stored = 0
        for group in self._meta.holders(bucket):
            for usage in (await self._meta.read_group(group, GetUsage(bucket=bucket), deadline=self._soon())).buckets:
                objects, stored = objects + usage.objects, stored + usage.stored
        return f"{objects:,} objects, {format_bytes(stored)} in blocks; {rows:,} block rows to walk"

    def _soon(self) -> float:
        return self._clock.monotonic() + CALL_SECONDS


def wished(policy: Policy, arguments: Mapping[str, str]) -> tuple[Policy, bool]:
    """The policy that `arguments` make of `policy`, what they do not name left as it is; and whether what is stored is
    to follow. Raises InvalidArgument.
    """
    unknown = set(arguments) - ARGUMENTS
    if unknown:
        raise InvalidArgument("bucket.arguments", f"bucket.profile takes no {', '.join(sorted(unknown))}")
    tier, criticality = arguments.get("tier", ""), arguments.get("criticality", "")
    fallback, convert = arguments.get("fallback", ""), arguments.get("convert", "yes")
    for value, names, what in (
        (tier, TIERS, "tier"),
        (criticality, CRITICALITIES, "criticality"),
        (fallback, _FLAGS, "fallback"),
        (convert, _FLAGS, "convert"),
    ):
        if value and value not in names:
            raise InvalidArgument("bucket.arguments", f"{what} is one of {', '.join(names)}, not {value[:40]!r}")
    wish = Policy(
        profile=arguments.get("profile") or policy.profile,
        tier=TIERS[tier] if tier else policy.tier,
        criticality=CRITICALITIES[criticality] if criticality else policy.criticality,
        allow_fallback=_FLAGS[fallback] if fallback else policy.allow_fallback,
    )
    return wish, _FLAGS[convert or "yes"]


def _words(policy: Policy) -> str:
    words = [policy.profile or AUTO]
    if policy.profile in {"", AUTO}:
        words += [f"tier {tier_name(policy.tier)}"] if policy.tier else []
        words += [f"criticality {policy.criticality.name.lower()}"]
    return ", ".join(words) + (", with fallback" if policy.allow_fallback else "")


def _describe(policy: Policy, choice: Choice) -> str:
    words = _words(policy)
    return words if choice.profile.scheme == policy.profile else f"{words} (that is {choice.profile.scheme})"


def _warnings(before: Choice, after: Choice) -> tuple[str, ...]:
    found = []
    if after.profile.losses_survived < before.profile.losses_survived:
        found.append("less is survived than now")
    if after.shortfall:
        found.append(
            f"{after.profile.name} {after.shortfall}: blocks are written by a weaker profile and upgraded later"
        )
    if not after.profile.parity:
        found.append("the loss of one device loses data")
    return tuple(found)


def _unreadable(walk: Walk) -> Corrupt:
    named = ", ".join(walk.unreadable)
    return Corrupt(
        "bucket.blocks_unreadable",
        f"{walk.unreadable_count} blocks cannot be read and stay as they are: {named}",
        hint="bring devices back, or see `dwctl heal list`; then start it again",
    )
