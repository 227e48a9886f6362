"""Memory goes back to the system; seen in a process of its own, since malloc's settings are for good."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import asyncio, ctypes, sys
from dwd.runtime.allocator import TrimWorker, give_memory_back, holes_bytes
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
assert give_memory_back()
malloc, free = ctypes.CDLL(None).malloc, ctypes.CDLL(None).free
malloc.restype, free.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
held = [malloc(8_192) for _ in range(16_384)]
for one in held: ctypes.memset(one, 1, 8_192)
for one in held[:-1]: free(one)  # the last one keeps the top of the heap where it is
before = resident()
asyncio.run(TrimWorker().work())
print(before - resident())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc of glibc only")
def test_holes_in_the_heap_are_given_back_when_they_are_large() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100_000_000
