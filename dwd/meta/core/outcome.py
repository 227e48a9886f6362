"""What a command came to: a Receipt or the error it earned, and both as bytes, for the session table and the wire.

receipt  [0][index u64][stamp u64][existed u8][size i64][count i64][more u8]
error    [1][dwd.base.wire]
"""

from __future__ import annotations

import struct

from dwd.base import wire
from dwd.base.errors import Corrupt, DwError
from dwd.base.ids import LogIndex, Stamp
from dwd.meta.core.receipt import Receipt

Outcome = Receipt | DwError

_RECEIPT = struct.Struct(">BQQ?qq?")
_RECEIPT_TAG = 0
_ERROR_TAG = 1


def encode_outcome(outcome: Outcome) -> bytes:
    if isinstance(outcome, DwError):
        return bytes((_ERROR_TAG,)) + wire.encode(outcome)
    return _RECEIPT.pack(
        _RECEIPT_TAG, outcome.index, outcome.stamp, outcome.existed, outcome.size, outcome.count, outcome.more
    )


def decode_outcome(encoded: bytes) -> Outcome:
    """Raises Corrupt."""
    if len(encoded) == _RECEIPT.size and encoded[0] == _RECEIPT_TAG:
        _, index, stamp, existed, size, count, more = _RECEIPT.unpack(encoded)
        return Receipt(index=LogIndex(index), stamp=Stamp(stamp), existed=existed, size=size, count=count, more=more)
    if encoded[:1] == bytes((_ERROR_TAG,)):
        return wire.decode(encoded[1:])
    raise Corrupt("meta.outcome_malformed", f"{len(encoded)} bytes are no outcome of a command")
