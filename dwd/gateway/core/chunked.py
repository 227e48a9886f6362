"""The aws-chunked framing, as a push decoder.

    hex-size [;chunk-signature=HEX] CRLF  data  CRLF     any number of times
    0        [;chunk-signature=HEX] CRLF                 the last chunk
    [name:value CRLF]...  [x-amz-trailer-signature:HEX CRLF]  [CRLF]      trailers, where announced

Invariants: decoding does not depend on how the bytes are cut into `feed` calls; no more than LINE_BYTES_MAX are ever
held back; data comes out as views of what was fed.
Hazard: clients differ on the CRLF that ends the whole; after the last trailer it may be there or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from dwd.base.errors import InvalidArgument
from dwd.runtime.files import Buffer

LINE_BYTES_MAX = 4_096
TRAILERS_MAX = 16
_SIGNATURE = b"chunk-signature="


@dataclass(frozen=True, slots=True)
class ChunkData:
    """A piece of a chunk's payload."""

    data: memoryview


@dataclass(frozen=True, slots=True)
class ChunkEnd:
    """A chunk is complete; `signature` is what its header claimed, empty when unsigned."""

    signature: str


Event = ChunkData | ChunkEnd


class _State(Enum):
    SIZE = "size"
    DATA = "data"
    AFTER_DATA = "after data"
    TRAILER = "trailer"
    DONE = "done"


class ChunkedDecoder:
    """Feed it the body; it hands out payload pieces and chunk ends. `trailers` is complete once `finish` returned."""

    def __init__(self, *, signed: bool, trailers: bool) -> None:
        self.trailers: dict[str, str] = {}
        self._signed = signed
        self._with_trailers = trailers
        self._state = _State.SIZE
        self._line = bytearray()
        self._left = 0
        self._signature = ""
        self._last = False

    def feed(self, data: Buffer) -> list[Event]:
        """Raises InvalidArgument s3.incomplete_body for a malformed frame."""
        events: list[Event] = []
        view = memoryview(data)
        at, end = 0, len(view)
        while at < end:
            if self._state is _State.DATA:
                take = min(self._left, end - at)
                events.append(ChunkData(view[at : at + take]))
                at += take
                self._left -= take
                if self._left == 0:
                    self._state = _State.AFTER_DATA
            else:
                at = self._take_line(view, at, events)
        return events

    def finish(self) -> None:
        """The body ended. Raises InvalidArgument s3.incomplete_body when the frame did not."""
        if self._state is _State.TRAILER and not self._line:
            self._state = _State.DONE
        if self._state is not _State.DONE or self._line:
            raise _broken("the body ends inside a chunk")

    def _take_line(self, view: memoryview, at: int, events: list[Event]) -> int:
        window = bytes(view[at : at + LINE_BYTES_MAX])
        stop = window.find(b"\n")
        self._line += window if stop < 0 else window[:stop]
        if len(self._line) > LINE_BYTES_MAX:
            raise _broken("a line is too long")
        if stop < 0:
            return at + len(window)
        line = bytes(self._line)
        self._line.clear()
        if not line.endswith(b"\r"):
            raise _broken("a line does not end in CRLF")
        self._line_read(line[:-1], events)
        return at + stop + 1

    def _line_read(self, line: bytes, events: list[Event]) -> None:
        match self._state:
            case _State.SIZE:
                self._read_size(line)
                if self._left:
                    self._state = _State.DATA
                else:
                    self._last = True
                    events.append(ChunkEnd(self._signature))
                    self._state = _State.TRAILER
            case _State.AFTER_DATA:
                if line:
                    raise _broken("a chunk is longer than it says")
                events.append(ChunkEnd(self._signature))
                self._state = _State.SIZE
            case _State.TRAILER:
                if line:
                    self._read_trailer(line)
                else:
                    self._state = _State.DONE
            case _State.DATA | _State.DONE:
                # Some clients end a body of trailers with two empty lines.
                if line:
                    raise _broken("bytes follow the last chunk")

    def _read_size(self, line: bytes) -> None:
        size, found, extension = line.partition(b";")
        if not 0 < len(size) <= 16 or size.strip(b"0123456789abcdefABCDEF"):
            raise _broken("a chunk size is not a hex number")
        self._left = int(size, 16)
        self._signature = ""
        if self._signed:
            if not found or not extension.startswith(_SIGNATURE):
                raise _broken("a chunk is not signed")
            self._signature = extension[len(_SIGNATURE) :].decode("ascii", "replace")

    def _read_trailer(self, line: bytes) -> None:
        name, found, value = line.partition(b":")
        if not self._with_trailers or not found or len(self.trailers) >= TRAILERS_MAX:
            raise _broken("a trailer is malformed or was not announced")
        self.trailers[name.decode("utf-8", "replace").strip().lower()] = value.decode("utf-8", "replace").strip()


def _broken(why: str) -> InvalidArgument:
    return InvalidArgument("s3.incomplete_body", f"The request body is not well-formed aws-chunked data: {why}.")
