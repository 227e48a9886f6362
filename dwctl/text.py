"""Small renderings shared by the tables."""

from __future__ import annotations

from datetime import UTC, datetime


def when(unix_ms: int) -> str:
    """Unix milliseconds as UTC: "2026-03-01 12:00:00Z"."""
    return f"{datetime.fromtimestamp(unix_ms / 1000, UTC):%Y-%m-%d %H:%M:%SZ}" if unix_ms else "-"


def natural(name: str) -> tuple[str, int]:
    """Sorts n2 before n10."""
    stem = name.rstrip("0123456789")
    return stem, int(name[len(stem) :] or 0)
