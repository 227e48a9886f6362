"""How malloc serves a daemon that moves large buffers: what is freed goes back to the system.

By default glibc keeps an arena for every few threads and gives little back: a daemon that peaked at 640 MiB stayed
there. Mapping large buffers one by one gives them back at once, but pages each of them in anew: with a threshold of
512 KiB a 16 MiB PUT cost 308 ms of processor, with blocks and fragments (4 MiB, 1 MiB) in the heaps about 170 ms. So
they stay in the heaps, and the worker returns the holes of a burst once it is over.

Source: mallopt(3), malloc_trim(3), mallinfo2(3). Elsewhere than on glibc nothing is changed.
"""

from __future__ import annotations

import asyncio
import ctypes

from dwd.base.units import MIB
from dwd.runtime.worker import Progress

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
MAPPED_FROM_BYTES = 8 * MIB
"""Buffers from this size are mapped one by one: none that a request needs."""
TRIMMED_FROM_BYTES = 16 * MIB
"""Free memory at the top of a heap that is given back at once."""
HOLES_BYTES_MAX = 32 * MIB
"""Free memory inside the heaps that is worth a walk through them."""
ARENAS_MAX = 4
LOOK_SECONDS = 2.0


class _Mallinfo2(ctypes.Structure):
    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    )  # fmt: skip


def give_memory_back() -> bool:
    """Set this process up, before its threads start; False where malloc cannot be told."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    wanted = {_M_MMAP_THRESHOLD: MAPPED_FROM_BYTES, _M_TRIM_THRESHOLD: TRIMMED_FROM_BYTES, _M_ARENA_MAX: ARENAS_MAX}
    return all(mallopt(option, value) == 1 for option, value in wanted.items())


class TrimWorker:
    """Returns the holes in the heaps."""

    name = "node.memory"
    idle_seconds = LOOK_SECONDS

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        self._trim = getattr(library, "malloc_trim", None)
        self._info = getattr(library, "mallinfo2", None)
        if self._info is not None:
            self._info.restype = _Mallinfo2

    async def work(self) -> Progress:
        if self._info is not None and self._trim is not None and holes_bytes(self._info()) > HOLES_BYTES_MAX:
            # ctypes lets go of the GIL: only who allocates from the same heap waits, for a few milliseconds.
            await asyncio.get_running_loop().run_in_executor(None, self._trim, ctypes.c_size_t(TRIMMED_FROM_BYTES))
        return Progress.IDLE


def holes_bytes(info: ctypes.Structure) -> int:
    """Free bytes inside the heaps, but for what may stay at their tops."""
    return int(info.fordblks) - int(info.keepcost)
