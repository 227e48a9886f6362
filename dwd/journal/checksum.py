"""CRC32C over buffers of any kind.

The C extension takes only `bytes`; other buffers are fed to it in pieces small enough to stay in the CPU's cache,
so that the copy costs little beside the checksum.
"""

from __future__ import annotations

import google_crc32c

from dwd.runtime.files import Buffer

PIECE_BYTES = 128 * 1024


def crc32c(content: Buffer, crc: int = 0) -> int:
    """The CRC32C of what gave `crc` followed by `content`."""
    if type(content) is bytes:
        return int(google_crc32c.extend(crc, content))
    view = memoryview(content).cast("B") if len(content) else memoryview(b"")
    for start in range(0, len(view), PIECE_BYTES):
        crc = int(google_crc32c.extend(crc, bytes(view[start : start + PIECE_BYTES])))
    return crc
