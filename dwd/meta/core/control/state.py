"""What the commands of control share: the transaction, and which parts of the view a batch changed."""

from __future__ import annotations

from enum import Enum

from dwd.base.errors import InvalidArgument
from dwd.meta.core.tx import Tx

NAME_CHARACTERS_MAX = 255
TEXT_CHARACTERS_MAX = 1_024
BLOB_BYTES_MAX = 512 * 1024


class Part(Enum):
    """Parts of control that readers cache, each with a version of its own."""

    TOPOLOGY = "topology"
    BUCKETS = "buckets"
    USERS = "users"
    JOBS = "jobs"


class Control:
    def __init__(self, tx: Tx) -> None:
        self.tx = tx
        self.touched: set[Part] = set()

    def flush(self) -> None:
        """Nothing is kept back: control's commands write at once."""


def check_name(name: str, what: str) -> None:
    if not 0 < len(name) <= NAME_CHARACTERS_MAX or any(ord(c) < 0x20 for c in name):
        raise InvalidArgument("meta.name", f"{what} has 1 to {NAME_CHARACTERS_MAX} printable characters")


def check_text(*texts: str) -> None:
    if any(len(text) > TEXT_CHARACTERS_MAX for text in texts):
        raise InvalidArgument("meta.text_length", f"a text is longer than {TEXT_CHARACTERS_MAX} characters")


def check_blob(*blobs: bytes) -> None:
    if any(len(blob) > BLOB_BYTES_MAX for blob in blobs):
        raise InvalidArgument("meta.blob_length", f"a value is longer than {BLOB_BYTES_MAX} bytes")
