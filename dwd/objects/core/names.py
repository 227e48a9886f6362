"""What a bucket and a key may be called.

Source: AWS "Bucket naming rules", "Naming Amazon S3 objects".
"""

from __future__ import annotations

import re

from dwd.base.errors import InvalidArgument
from dwd.base.limits import KEY_BYTES_MAX

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ADDRESS = re.compile(r"[0-9]{1,3}(?:\.[0-9]{1,3}){3}")
_RESERVED_STARTS = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_ENDS = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")


def check_bucket_name(name: str) -> None:
    """Raises InvalidArgument objects.invalid_bucket_name unless S3 allows `name` for a bucket."""
    if (
        _BUCKET.fullmatch(name) is None
        or ".." in name
        or _ADDRESS.fullmatch(name) is not None
        or name.startswith(_RESERVED_STARTS)
        or name.endswith(_RESERVED_ENDS)
    ):
        raise InvalidArgument(
            "objects.invalid_bucket_name",
            "The specified bucket is not valid.",
            hint="3 to 63 of a-z, 0-9, '-' and single '.', beginning and ending with a letter or digit",
            bucket=name[:255],
        )


def check_key(key: str) -> None:
    """Raises InvalidArgument objects.key_too_long (over 1,024 UTF-8 bytes) or objects.invalid_key (NUL, not UTF-8)."""
    if len(key) > KEY_BYTES_MAX // 4 or not key.isascii():
        try:
            size = len(key.encode())
        except UnicodeEncodeError:
            raise InvalidArgument("objects.invalid_key", "The key is not valid UTF-8.") from None
        if size > KEY_BYTES_MAX:
            raise InvalidArgument(
                "objects.key_too_long", "Your key is too long.", size=size, max_size_allowed=KEY_BYTES_MAX
            )
    if "\0" in key:
        raise InvalidArgument("objects.invalid_key", "A key must not contain the character NUL.")
