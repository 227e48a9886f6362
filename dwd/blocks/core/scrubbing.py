"""When a device is scrubbed, and how much of it is due: arithmetic over times that the caller passes in.

A pass spreads over its period: what is left of it, divided by the time that is left, is its rate. So a device that was
away catches up evenly, and one that is nearly empty is read a fragment at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from dwd.base.policy import Tier

PERIOD_SETTING = "scrub.period"
"""Days; a setting of control. Empty: what the cluster's tier calls for."""
PERIOD_DAYS_MIN = 0.01
PERIOD_DAYS_DEFAULT = 7.0
PERIOD_DAYS_MAX = 365.0
TIER_DAYS = {Tier.HIGH_STAKES: 1.0, Tier.HYPERSCALE: 3.0}
"""What tiers call for; any other tier has the default."""
DAY_SECONDS = 86_400.0
HURRY_MAX = 20.0
"""How many times its usual rate a pass goes at most when it is late: late is better than all at once."""


def period_days(setting: str, tier: Tier) -> float:
    """`setting` as operators left it, empty for what the cluster's tier calls for; so is what cannot be read."""
    for_tier = TIER_DAYS.get(tier, PERIOD_DAYS_DEFAULT)
    try:
        days = float(setting) if setting else for_tier
    except ValueError:
        return for_tier
    return days if PERIOD_DAYS_MIN <= days <= PERIOD_DAYS_MAX else for_tier


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """One reading of everything a device holds. Times are Unix milliseconds, 0 for not yet. `segment` and `offset` say
    where it goes on, `found` how many fragments were bad; `order` names the job that asked for it.
    """

    number: int = 0
    began_ms: int = 0
    ended_ms: int = 0
    segment: int = 0
    offset: int = 0
    done_bytes: int = 0
    total_bytes: int = 0
    fragments: int = 0
    found: int = 0
    order: str = ""
    full_speed: bool = False

    @property
    def running(self) -> bool:
        return self.began_ms > 0 and self.ended_ms == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubState:
    """`current` is under way, or the last one when none is; `last` is the last finished."""

    current: Pass = Pass()
    last: Pass = Pass()

    def begin(self, now_ms: int, total_bytes: int, *, order: str = "", full_speed: bool = False) -> ScrubState:
        fresh = Pass(
            number=self.current.number + 1, began_ms=now_ms, total_bytes=total_bytes, order=order, full_speed=full_speed
        )
        return replace(self, current=fresh)

    def end(self, now_ms: int) -> ScrubState:
        ended = replace(self.current, ended_ms=now_ms)
        return ScrubState(current=ended, last=ended)

    def is_due(self, now_ms: int, period_days: float, *, holds: bool) -> bool:
        """Whether a pass should begin: a period after the last one began, so that each period has one; at once on a
        device that held nothing then and does now. Where nothing is held there is nothing to read.
        """
        if self.current.running or not holds:
            return False
        if self.current.total_bytes == 0:
            return True
        return now_ms >= self.current.began_ms + int(period_days * DAY_SECONDS * 1000)


def rate_of(current: Pass, now_ms: int, days: float) -> float:
    """Bytes a second that the pass needs to end in time; no less than usual, and at most HURRY_MAX times that."""
    period = days * DAY_SECONDS
    usual = max(1, current.total_bytes) / period
    left = period - (now_ms - current.began_ms) / 1000
    if left <= 0:
        return HURRY_MAX * usual
    return min(HURRY_MAX * usual, max(usual, (current.total_bytes - current.done_bytes) / left))
