"""CRC-64/NVME of ISA-L, which pyeclib brings along for the block store: memory speed, and without the GIL."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from dwd.gateway.core import crc64
from dwd.gateway.core.crc64 import CHECK_INPUT, CHECK_VALUE, Update
from dwd.runtime.files import Buffer

_SYSTEM_NAMES = ("libisal.so.2",)


def install() -> bool:
    """Make the core compute by ISA-L; False where there is none, and the core goes on by its table."""
    update = native_update()
    return update is not None and crc64.install(update)


def native_update() -> Update | None:
    """The update on ISA-L, or None where no library offers it or it gives wrong values."""
    spec = find_spec("pyeclib")
    names = list(_SYSTEM_NAMES)
    if spec is not None and spec.origin is not None:
        bundled = Path(spec.origin).parent.parent / "pyeclib.libs"
        names[:0] = sorted(str(path) for path in bundled.glob("libisal*.so*"))
    for name in names:
        try:
            function = ctypes.CDLL(name).crc64_rocksoft_refl
        except (OSError, AttributeError):
            continue
        function.argtypes = (ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint64)
        function.restype = ctypes.c_uint64
        update = _bind(function)
        if update(0, CHECK_INPUT) == CHECK_VALUE:
            return update
    return None


def _bind(function: Callable[[int, object, int], int]) -> Update:
    char = ctypes.c_char

    def update(value: int, data: Buffer) -> int:
        size = len(data)
        if isinstance(data, bytes):
            return function(value, data, size)
        if memoryview(data).readonly:
            return function(value, bytes(data), size)
        return function(value, ctypes.byref((char * size).from_buffer(data)), size) if size else value

    return update
