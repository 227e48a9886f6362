"""What compression and encryption make of objects' bytes, as metrics."""

from __future__ import annotations

from dwd.observability import metrics

_PLAIN = metrics.counter("dwd.objects.packed.plain", "Bytes of objects that were compressed or encrypted", "By")
_STORED = metrics.counter("dwd.objects.packed.stored", "What became of them, before erasure coding", "By")


def count_packed(plain: int, stored: int) -> None:
    """A block of `plain` bytes became one of `stored`."""
    _PLAIN.add(plain)
    _STORED.add(stored)
