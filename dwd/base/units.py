"""Sizes and how people read and write them."""

from __future__ import annotations

import re
from decimal import Decimal

from dwd.base.errors import InvalidArgument

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TIB = 1024 * GIB

_SCALE = {"": 1, "B": 1, "KIB": KIB, "MIB": MIB, "GIB": GIB, "TIB": TIB, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([A-Za-z]*)")


def format_bytes(count: int) -> str:
    """`count` bytes in binary units with at most one decimal: "4.5 MiB"."""
    value = float(count)
    unit = "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if abs(round(value, 1)) < KIB:
            break
        value, unit = value / KIB, larger
    return f"{value:.1f}".removesuffix(".0") + f" {unit}"


def parse_bytes(text: str) -> int:
    """Bytes of "64 MiB", "1GB" or "4096". Raises InvalidArgument."""
    match = _SIZE.fullmatch(text.strip())
    scale = _SCALE.get(match.group(2).upper()) if match else None
    if match is None or scale is None:
        raise InvalidArgument(
            "size.malformed", f"not a size: {text[:40]!r}", hint="write it like 512KiB, 64MiB or 1GiB"
        )
    return int(Decimal(match.group(1)) * scale)


def format_duration(seconds: float) -> str:
    """Seconds as people read them: "850 ms", "12.3 s", "4 min 5 s", "3 h 20 min"."""
    if round(seconds * 1000) < 1000:
        return f"{seconds * 1000:.0f} ms"
    if round(seconds, 1) < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min"
