"""What is stored, by profile: what a change of layout would move, and what is at stake in it."""

from __future__ import annotations

from dwd.blocks.core.layout import Layout
from dwd.blocks.core.profiles import Profile
from dwd.blocks.policies import choice_on
from dwd.meta.client import MetaClient
from dwd.meta.core.shard.queries import GetUsage


async def stored_by_profile(meta: MetaClient, layout: Layout, *, deadline: float) -> dict[Profile, int]:
    """Bytes in blocks, before they are coded, by what the profiles of their buckets mean on the layout; 0 for buckets
    without any. Raises Unavailable, DeadlineExceeded.
    """
    view = meta.view
    profiles = {row.name: choice_on(row.policy, layout, view.topology()).profile for row in view.buckets()}
    stored = dict.fromkeys(profiles.values(), 0)
    for group in meta.shards():
        after, more = "", True
        while more:
            answer = await meta.read_group(group, GetUsage(after=after), deadline=deadline)
            for usage in answer.buckets:
                after = usage.bucket
                if usage.bucket in profiles:
                    stored[profiles[usage.bucket]] += usage.stored
            more = answer.more
    return stored
