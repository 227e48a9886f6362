"""Named maxima that more than one package must agree on. A limit of one package stands in that package."""

from __future__ import annotations

from dwd.base.errors import InvariantViolation
from dwd.base.units import KIB, MIB, TIB

COMMAND_BYTES_MAX = 1 * MIB
"""A command in the log, encoded."""
INLINE_BYTES_DEFAULT = 16 * KIB
"""Objects up to this size ride in their PutObject command."""
INLINE_BYTES_MAX = 256 * KIB
BLOCK_BYTES = 4 * MIB
"""Objects are cut into blocks of this size; the last one is shorter."""
PACKED_BLOCK_BYTES_MAX = BLOCK_BYTES + 4 * KIB
"""What a block may become by being sealed."""
SMALL_BLOCK_BYTES = 128 * KIB
"""A Reed-Solomon profile stores blocks below this as M+1 copies."""
BLOCKS_PER_ROW_MAX = 1_000
OBJECT_BYTES_MAX = 5 * TIB
ORPHAN_GRACE_SECONDS = 24 * 3600
"""A fragment younger than this is nobody's orphan; blocks older than half of it cannot be named for the first time."""
KEY_BYTES_MAX = 1_024
LIST_PAGE_MAX = 1_000
MESSAGE_BYTES_MAX = 8 * MIB
"""One gRPC message, either way."""
CHUNK_BYTES = 1 * MIB
"""What streams (bodies, snapshots, fragments) move at a time."""

if not INLINE_BYTES_DEFAULT <= INLINE_BYTES_MAX < COMMAND_BYTES_MAX:
    raise InvariantViolation("inline objects must fit a command")
if not COMMAND_BYTES_MAX < PACKED_BLOCK_BYTES_MAX < MESSAGE_BYTES_MAX:
    raise InvariantViolation("a block and a command must fit one message")
