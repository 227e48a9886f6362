"""Fragment requests as bytes. Not protobuf: its parsers copy every payload, and payloads are all there is.

Service dwd.blocks.v1.Fragments, identity serializers:

    Exchange   stream  bundles of requests -> bundles of responses, in any order
    bundle     entries { [length u32][correlation u64][request or response of that length] }

Request (big-endian): [op u8][device u64][milliseconds left u32] then

    PUT        [purpose u8][layout epoch u64][block (16)][index u8][head length u32] head, content
    GET        [block (16)][index u8][offset u32][length u32][purpose u8]
    DELETE     keys of 17 bytes: block, index
    LEFTOVERS  keys of 17 bytes
    COPIES     { block (16), index u8, copy u64 }
    HELD       [verify u8] blocks of 16 bytes

Response: [status u8] then: 1 an error as dwd.base.wire has it; 0 and for

    GET        [head length u32] head, content
    HELD       entries { block (16), index u8, length u32, sound u8: 0 no, 1 yes, 2 not looked at, copy u64 }
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from dwd.base import wire
from dwd.base.errors import Corrupt, DwError, InvalidArgument
from dwd.base.ids import BLOCK_ID_BYTES, BlockId, DeviceId, LayoutEpoch
from dwd.base.limits import CHUNK_BYTES
from dwd.blocks.fragments import CopyKey, Fetched, HeldFragment, Purpose, PutFragment
from dwd.blocks.volumes.fragment import FragmentKey, decode_head, decode_keys, encode_keys
from dwd.runtime.files import Buffer

SERVICE = "dwd.blocks.v1.Fragments"

_REQUEST = struct.Struct(">BQI")
_PUT = struct.Struct(">BQ16sBI")
_GET = struct.Struct(">16sBIIB")
_ENTRY = struct.Struct(">IQ")
_LENGTH = struct.Struct(">I")
_HELD = struct.Struct(">16sBIBQ")
_COPY = struct.Struct(">16sBQ")
_OK, _ERROR = b"\0", b"\1"
_PURPOSES = frozenset(Purpose)
_SOUND: tuple[bool | None, ...] = (False, True, None)


class Op(IntEnum):
    PUT = 1
    GET = 2
    DELETE = 3
    HELD = 4
    COPIES = 5
    LEFTOVERS = 6


@dataclass(frozen=True, slots=True)
class Request:
    """`body` is what follows the common part."""

    op: Op
    device: DeviceId
    left_ms: int
    body: memoryview


def put_request(fragment: PutFragment, left_ms: int) -> list[Buffer]:
    head = _REQUEST.pack(Op.PUT, fragment.device, left_ms) + _PUT.pack(
        fragment.purpose,
        fragment.layout_epoch,
        fragment.key.block,
        fragment.key.index,
        len(fragment.head),
    )
    return [head, fragment.head, fragment.content]


def get_request(
    device: DeviceId, key: FragmentKey, offset: int, length: int, left_ms: int, purpose: Purpose = Purpose.CLIENT
) -> list[Buffer]:
    return [_REQUEST.pack(Op.GET, device, left_ms) + _GET.pack(key.block, key.index, offset, length, purpose)]


def delete_request(device: DeviceId, keys: Sequence[FragmentKey], left_ms: int) -> list[Buffer]:
    return [_REQUEST.pack(Op.DELETE, device, left_ms), encode_keys(keys)]


def leftovers_request(device: DeviceId, keys: Sequence[FragmentKey], left_ms: int) -> list[Buffer]:
    return [_REQUEST.pack(Op.LEFTOVERS, device, left_ms), encode_keys(keys)]


def copies_request(device: DeviceId, copies: Sequence[CopyKey], left_ms: int) -> list[Buffer]:
    packed = b"".join(_COPY.pack(c.key.block, c.key.index, c.copy) for c in copies)
    return [_REQUEST.pack(Op.COPIES, device, left_ms), packed]


def held_request(device: DeviceId, blocks: Sequence[BlockId], left_ms: int, *, verify: bool) -> list[Buffer]:
    return [_REQUEST.pack(Op.HELD, device, left_ms), b"\1" if verify else b"\0", *blocks]


def decode_request(raw: Buffer) -> Request:
    """Raises InvalidArgument."""
    try:
        op, device, left_ms = _REQUEST.unpack_from(raw)
        return Request(Op(op), DeviceId(device), left_ms, memoryview(raw)[_REQUEST.size :])
    except (struct.error, ValueError) as error:
        raise InvalidArgument("blocks.request", "not a fragment request") from error


def decode_put(request: Request) -> PutFragment:
    purpose, epoch, block, index, length = _PUT.unpack_from(request.body)
    content_at = _PUT.size + length
    return PutFragment(
        device=request.device,
        key=FragmentKey(BlockId(block), index),
        layout_epoch=LayoutEpoch(epoch),
        head=bytes(request.body[_PUT.size : content_at]),
        content=request.body[content_at:],
        purpose=_purpose(purpose),
    )


def decode_get(request: Request) -> tuple[FragmentKey, int, int, Purpose]:
    block, index, offset, length, purpose = _GET.unpack_from(request.body)
    return FragmentKey(BlockId(block), index), offset, length, _purpose(purpose)


def decode_delete(request: Request) -> Sequence[FragmentKey]:
    return decode_keys(request.body)


def decode_copies(request: Request) -> list[CopyKey]:
    raw = request.body
    if len(raw) % _COPY.size:
        raise InvalidArgument("blocks.request", "a list of copies is cut short")
    return [CopyKey(FragmentKey(BlockId(block), index), copy) for block, index, copy in _COPY.iter_unpack(raw)]


def _purpose(code: int) -> Purpose:
    """What a later daemon may say beyond these is some background work."""
    return Purpose(code) if code in _PURPOSES else Purpose.REPAIR


def decode_held(request: Request) -> tuple[list[BlockId], bool]:
    raw = bytes(request.body[1:])
    blocks = [BlockId(raw[at : at + BLOCK_ID_BYTES]) for at in range(0, len(raw), BLOCK_ID_BYTES)]
    return blocks, bool(request.body[0])


def done_response() -> list[Buffer]:
    return [_OK]


def get_response(fetched: Fetched) -> list[Buffer]:
    return [_OK, _LENGTH.pack(fetched.head.size), fetched.head.raw, fetched.content]


def held_response(held: Sequence[HeldFragment]) -> list[Buffer]:
    return [_OK, *(_HELD.pack(h.key.block, h.key.index, h.length, _SOUND.index(h.sound), h.copy) for h in held)]


def error_response(error: DwError) -> list[Buffer]:
    return [_ERROR, wire.encode(error)]


def decode_response(raw: Buffer) -> memoryview:
    """What follows the status. Raises the error it carries, Corrupt."""
    view = memoryview(raw)
    if not view:
        raise Corrupt("blocks.response", "an empty answer")
    if view[0]:
        raise wire.decode(bytes(view[1:]))
    return view[1:]


def decode_fetched(body: memoryview) -> Fetched:
    (size,) = _LENGTH.unpack_from(body)
    at = _LENGTH.size
    return Fetched(head=decode_head(body[at : at + size]), content=body[at + size :])


def decode_held_response(body: memoryview) -> tuple[HeldFragment, ...]:
    return tuple(
        HeldFragment(key=FragmentKey(BlockId(block), index), length=length, sound=_SOUND[sound], copy=copy)
        for block, index, length, sound, copy in _HELD.iter_unpack(body)
    )


def entry(correlation: int, message: Sequence[Buffer]) -> list[Buffer]:
    """One entry of a bundle."""
    return [_ENTRY.pack(sum(map(len, message)), correlation), *message]


def entries(bundle: Buffer) -> Iterator[tuple[int, memoryview]]:
    """(correlation, message) of a bundle. Raises Corrupt."""
    view, at = memoryview(bundle), 0
    while at < len(view):
        if at + _ENTRY.size > len(view):
            raise Corrupt("blocks.bundle", "a bundle is cut short")
        length, correlation = _ENTRY.unpack_from(view, at)
        at += _ENTRY.size
        if at + length > len(view):
            raise Corrupt("blocks.bundle", "a bundle is cut short")
        yield correlation, view[at : at + length]
        at += length


def bundles(queue: Sequence[Buffer]) -> list[bytes]:
    """Entries joined to messages of about CHUNK_BYTES, cut only between entries (each begins with its 12 bytes)."""
    made: list[bytes] = []
    pieces: list[Buffer] = []
    size = left = 0
    for piece in queue:
        if left == 0:
            if size >= CHUNK_BYTES:
                made.append(b"".join(pieces))
                pieces, size = [], 0
            left = int.from_bytes(piece[:4]) + len(piece)
        pieces.append(piece)
        size += len(piece)
        left -= len(piece)
    made.append(b"".join(pieces))
    return made
