"""The head of a sealed box, which metadata looks at without being able to open it.

box: [1 format = 1][4 key version][16 salt][12 nonce][ciphertext][16 tag]      big-endian
"""

from __future__ import annotations

import struct

from dwd.base.errors import Corrupt

FORMAT = 1
SALT_BYTES = 16
NONCE_BYTES = 12
TAG_BYTES = 16
HEADER = struct.Struct(f">BI{SALT_BYTES}s")

OVERHEAD_BYTES = HEADER.size + NONCE_BYTES + TAG_BYTES
"""How much longer a box is than its plaintext."""


def box_version(box: bytes) -> int:
    """The version of the key a box was sealed with. Raises Corrupt."""
    if len(box) < OVERHEAD_BYTES:
        raise Corrupt("security.box_damaged", f"a sealed box of {len(box)} bytes is too short")
    version: int = HEADER.unpack_from(box)[1]
    return version
