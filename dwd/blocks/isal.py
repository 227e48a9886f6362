"""Erasure coding with ISA-L: parity and missing fragments computed from buffers where they lie.

ISA-L comes with pyeclib, whose own calls copy every byte twice, page in fresh memory and hold the interpreter lock
(4 MiB as 4+2: 4.2 ms). Called directly the same routines take under 1 ms, read the caller's buffer, and release the
lock. Where the library is not found, pyeclib itself computes the same bytes (`PyeclibMath`); a test holds both equal.

The code: systematic Cauchy Reed-Solomon over GF(2^8), generator of `gf_gen_cauchy1_matrix` (MDS for every K, M).
Source: ISA-L erasure_code.h; Bloemer et al. 1995.

Hazard: the routines trust their pointers. Lengths are checked here, before anything is called.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Mapping, Sequence
from ctypes.util import find_library
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import pyeclib.ec_iface

from dwd.base.errors import InvariantViolation
from dwd.runtime.files import Buffer

_TABLE_BYTES = 32
"""Expanded multiplication table ISA-L wants for one coefficient."""
_HEADER_BYTES = 80
"""What liberasurecode puts in front of a fragment."""


class FragmentMath(Protocol):
    """Linear algebra over fragments, all of the same length, given by index."""

    def parity(self, data: int, parity: int, fragments: Sequence[Buffer]) -> list[Buffer]:
        """The `parity` fragments of the `data` fragments given in order."""
        ...

    def rebuild(self, data: int, parity: int, have: Mapping[int, Buffer], want: Sequence[int]) -> list[Buffer]:
        """Fragments `want`, from at least `data` others."""
        ...


class IsalMath:
    """ISA-L through ctypes."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._lib = library
        self._encode = library.ec_encode_data
        self._encode.restype = None

    def parity(self, data: int, parity: int, fragments: Sequence[Buffer]) -> list[Buffer]:
        rows = tuple(range(data, data + parity))
        return self._multiply(self._tables(data, parity, tuple(range(data)), rows), fragments, parity)

    def rebuild(self, data: int, parity: int, have: Mapping[int, Buffer], want: Sequence[int]) -> list[Buffer]:
        sources = tuple(sorted(have)[:data])
        tables = self._tables(data, parity, sources, tuple(want))
        return self._multiply(tables, [have[i] for i in sources], len(want))

    def _multiply(self, tables: ctypes.Array[ctypes.c_char], sources: Sequence[Buffer], count: int) -> list[Buffer]:
        length = len(sources[0])
        if any(len(s) != length for s in sources):
            raise InvariantViolation("fragments of different lengths")
        views = [_pointer(source) for source in sources]
        made = [bytearray(length) for _ in range(count)]
        inputs = (ctypes.c_void_p * len(sources))(*(address for address, _ in views))
        outputs = (ctypes.c_void_p * count)(*(ctypes.addressof(ctypes.c_char.from_buffer(m)) for m in made if length))
        if length:
            self._encode(length, len(sources), count, tables, inputs, outputs)
        return list(made)

    def _tables(
        self, data: int, parity: int, sources: tuple[int, ...], want: tuple[int, ...]
    ) -> ctypes.Array[ctypes.c_char]:
        if len(sources) != data or not want or max(*sources, *want) >= data + parity:
            raise InvariantViolation("impossible set of fragments", data=data, parity=parity, sources=len(sources))
        return _tables(self._lib, data, parity, sources, want)


class PyeclibMath:
    """The same code through pyeclib's public calls."""

    def parity(self, data: int, parity: int, fragments: Sequence[Buffer]) -> list[Buffer]:
        if not len(fragments[0]):
            return [b""] * parity
        made = _driver(data, parity).encode(b"".join(fragments))
        return [memoryview(fragment)[_HEADER_BYTES:] for fragment in made[data:]]

    def rebuild(self, data: int, parity: int, have: Mapping[int, Buffer], want: Sequence[int]) -> list[Buffer]:
        length = len(next(iter(have.values())))
        if not length:
            return [b""] * len(want)
        headers = _headers(data, parity, length)
        framed = [headers[i] + bytes(have[i]) for i in sorted(have)[:data]]
        ordered = sorted(want)
        made = dict(zip(ordered, _driver(data, parity).reconstruct(framed, ordered), strict=True))
        return [memoryview(made[index])[_HEADER_BYTES:] for index in want]


@lru_cache(maxsize=1)
def fragment_math() -> FragmentMath:
    """The fastest one there is here."""
    for candidate in _candidates():
        try:
            library = ctypes.CDLL(candidate)
        except OSError:
            continue
        if all(hasattr(library, n) for n in ("ec_encode_data", "ec_init_tables", "gf_gen_cauchy1_matrix")):
            return IsalMath(library)
    return PyeclibMath()


def _candidates() -> list[str]:
    spec = find_spec("pyeclib")
    found = (
        [str(p) for p in Path(spec.origin).parent.parent.glob("pyeclib.libs/libisal*")] if spec and spec.origin else []
    )
    system = find_library("isal")
    return found + ([system] if system else [])


def _pointer(source: Buffer) -> tuple[int, object]:
    """Address of a contiguous buffer, and what keeps it there."""
    if isinstance(source, bytes):
        return ctypes.cast(ctypes.c_char_p(source), ctypes.c_void_p).value or 0, source
    view = memoryview(source)
    if view.readonly:
        return _readonly_pointer(view)
    keep = (ctypes.c_char * len(view)).from_buffer(view) if view else b""
    return (ctypes.addressof(keep) if view else 0), keep  # type: ignore[arg-type]


class _PyBuffer(ctypes.Structure):
    """`Py_buffer` as far as `buf`; the rest is room (CPython's is 80 bytes)."""

    _fields_ = (("buf", ctypes.c_void_p), ("rest", ctypes.c_byte * 120))


def _readonly_pointer(view: memoryview) -> tuple[int, object]:
    """The address of a read-only view, which ctypes refuses to give."""
    raw = _PyBuffer()
    if ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(view), ctypes.byref(raw), 0) != 0:
        raise InvariantViolation("not a contiguous buffer")
    address = raw.buf or 0
    ctypes.pythonapi.PyBuffer_Release(ctypes.byref(raw))
    return address, view


@lru_cache(maxsize=4096)
def _tables(
    lib: ctypes.CDLL, data: int, parity: int, sources: tuple[int, ...], want: tuple[int, ...]
) -> ctypes.Array[ctypes.c_char]:
    """ISA-L's expanded form of the matrix that makes fragments `want` out of `sources`."""
    total = data + parity
    generator = ctypes.create_string_buffer(total * data)
    lib.gf_gen_cauchy1_matrix(generator, total, data)
    rows = generator.raw
    square = ctypes.create_string_buffer(b"".join(rows[i * data : (i + 1) * data] for i in sources), data * data)
    inverse = ctypes.create_string_buffer(data * data)
    if lib.gf_invert_matrix(square, inverse, data) != 0:
        raise InvariantViolation("a Cauchy matrix did not invert", data=data, parity=parity)
    matrix = bytearray()
    for fragment in want:
        row, back = rows[fragment * data : (fragment + 1) * data], inverse.raw
        for column in range(data):
            value = 0
            for i in range(data):
                value ^= lib.gf_mul(ctypes.c_ubyte(row[i]), ctypes.c_ubyte(back[i * data + column])) & 0xFF
            matrix.append(value)
    tables = ctypes.create_string_buffer(_TABLE_BYTES * data * len(want))
    lib.ec_init_tables(data, len(want), bytes(matrix), tables)
    return tables


@lru_cache(maxsize=64)
def _driver(data: int, parity: int) -> pyeclib.ec_iface.ECDriver:
    return pyeclib.ec_iface.ECDriver(ec_type="isa_l_rs_cauchy", k=data, m=parity)


@lru_cache(maxsize=64)
def _headers(data: int, parity: int, length: int) -> tuple[bytes, ...]:
    """Headers of liberasurecode depend on shape and size only (checksums off): those of zeros serve all."""
    return tuple(fragment[:_HEADER_BYTES] for fragment in _driver(data, parity).encode(bytes(length * data)))


if sys.implementation.name != "cpython":
    raise InvariantViolation("dwd.blocks.isal reads buffers as CPython lays them out")
