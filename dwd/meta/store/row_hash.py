"""Definition 1 of the state hash: what a row comes to, and a table.

    row     sha256 of  '(' [columns u32], then for each column
                       'N'                              NULL
                       'i' [value i32]                  integers of 32 bits
                       'l' [digits i32][digit u16]...   others: base 2^15, low digit first, the sign on `digits`
                       'u' [bytes u32][UTF-8]           text
                       's' [bytes u32][bytes]           blobs
            all little-endian: the second version of Python's marshal, which writes it several times faster than
            anything composed here could. That it still does is verified at import, against a golden row.
    table   the sum of its rows' hashes, as little-endian numbers, modulo 2^256

A sum does not care for order, and a row is taken out as it was put in, by one addition. What it guards against are
accidents: bits that flip, rows that are lost, doubled or written by a replica that went astray. Each changes the sum by
a number that SHA-256 makes as good as random, so it goes unnoticed with a chance of 2^-256. Against somebody who looks
for rows of equal sum it is weaker (Wagner's generalised birthday), but who may write rows needs no collision.

Source: Bellare and Micciancio 1997, "A new paradigm for collision-free hashing: incrementality at reduced cost"
(AdHash); raft.md section 3.
"""

from __future__ import annotations

import hashlib
import marshal
from collections.abc import Iterable

from dwd.base.errors import InvariantViolation
from dwd.meta.core.tx import Row

DEFINITION = 1
SUM_BYTES = 32
MODULUS = 1 << 8 * SUM_BYTES

GOLDEN_ROW: Row = (None, 0, -1, 1 << 31, -(1 << 62), "", "kästchen", b"", b"\x00\xff")
GOLDEN_BYTES = bytes.fromhex(
    "2809000000 4e 6900000000 69ffffffff 6c03000000000000000200 6cfbffffff00000000000000000400"
    "7500000000 75090000006bc3a4737463 68656e 7300000000 730200000000ff"
)


def rows_hash(rows: Iterable[Row]) -> int:
    """The sum, not reduced, over rows as SQLite hands them out: tuples of None, int, str and bytes."""
    number, sha256, dumps = int.from_bytes, hashlib.sha256, marshal.dumps
    return sum([number(sha256(dumps(row, 2)).digest(), "little") for row in rows])


if marshal.dumps(GOLDEN_ROW, 2) != GOLDEN_BYTES:
    raise InvariantViolation("this Python writes rows in another way than the state hash is defined by")
