"""What operators say to healing, cluster-wide: settings of control."""

from __future__ import annotations

PACE_SETTING = "heal.pace"
"""Bytes a second and device; empty: by feedback."""
EXPOSURE_SETTING = "heal.exposure_minutes"
EXPOSURE_MINUTES_DEFAULT = 30
EXPOSURE_MINUTES_MAX = 7 * 24 * 60
PACE_BYTES_MIN = 64 * 1024
PACE_BYTES_MAX = 1 << 40


def parse_pace(value: str) -> float | None:
    """None: by feedback; so is what cannot be read."""
    return float(value) if value.isdecimal() and PACE_BYTES_MIN <= int(value) <= PACE_BYTES_MAX else None


def parse_exposure_minutes(value: str) -> int:
    if value.isdecimal() and 0 < int(value) <= EXPOSURE_MINUTES_MAX:
        return int(value)
    return EXPOSURE_MINUTES_DEFAULT
