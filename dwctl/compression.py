"""How people name compression: off, zstd, zstd:LEVEL."""

from __future__ import annotations

from typing import Annotated

import typer

from dwd.base.errors import InvalidArgument

LEVEL_DEFAULT = 1
"""On text and JSON level 3 saves little more, at half the speed (docs/adr/0010)."""
LEVEL_MAX = 19
CompressionOption = Annotated[str, typer.Option(help="Compress what is stored: off, zstd, or zstd:LEVEL (1 to 19).")]


def parse_compression(text: str) -> int:
    """A zstd level, 0 for none. Raises InvalidArgument."""
    name, _, level = text.partition(":")
    if text == "off":
        return 0
    if name == "zstd" and not level and ":" not in text:
        return LEVEL_DEFAULT
    if name == "zstd" and level.isascii() and level.isdigit() and 1 <= int(level) <= LEVEL_MAX:
        return int(level)
    raise InvalidArgument(
        "dwctl.compression", f"not a compression: {text[:32]!r}", hint=f"off, zstd, or zstd:1 to zstd:{LEVEL_MAX}"
    )


def compression_name(level: int) -> str:
    return f"zstd:{level}" if level else "off"
