"""Replies onto the wire, with back-pressure and an end to patience."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from aiohttp import web
from multidict import CIMultiDict

from dwd.base.errors import DwError
from dwd.gateway import telemetry
from dwd.gateway.exchange import Reply
from dwd.gateway.telemetry import AccessRecord
from dwd.runtime.files import Buffer

_SERVER = "dwd"
_BODILESS = frozenset({204, 304})


async def send(
    request: web.BaseRequest, reply: Reply, record: AccessRecord, *, close: bool, idle_seconds: float
) -> web.StreamResponse:
    """Send `reply`. An answer that cannot be finished breaks its connection, so that no client takes it for whole."""
    response = _response(request, reply, record)
    if close:
        response.force_close()
    try:
        await response.prepare(request)
        if request.method == "HEAD" or reply.status in _BODILESS:
            return response
        if reply.stream is None:
            if not request.protocol.writing_paused:
                await response.write_eof()
            else:
                async with asyncio.timeout(idle_seconds):
                    await response.write_eof()
            record.bytes_out = len(reply.body)
        else:
            await _stream(response, reply.stream, record, idle_seconds)
            if record.bytes_out == reply.length:
                await response.write_eof()
            else:
                _break(request, record, "gateway.short_answer")
    except (TimeoutError, ConnectionError, DwError) as error:
        _break(request, record, _reason(error))
    except Exception as error:  # noqa: BLE001  # left to aiohttp it would be answered, in the middle of the body
        telemetry.failed(record.request_id, error)
        _break(request, record, "gateway.failed")
    finally:
        if reply.stream is not None:
            await reply.stream.aclose()
    return response


async def _stream(
    response: web.StreamResponse, stream: AsyncIterator[Buffer], record: AccessRecord, idle_seconds: float
) -> None:
    async for chunk in stream:
        async with asyncio.timeout(idle_seconds):
            await response.write(chunk)
        record.bytes_out += len(chunk)
        del chunk


def _response(request: web.BaseRequest, reply: Reply, record: AccessRecord) -> web.StreamResponse:
    headers: CIMultiDict[str] = CIMultiDict(reply.headers)
    headers["x-amz-request-id"] = record.request_id
    headers["Server"] = _SERVER
    if reply.stream is None and request.method != "HEAD" and reply.status not in _BODILESS:
        # With the body at hand aiohttp sends head and body in one write.
        data = reply.body
        return web.Response(status=reply.status, headers=headers, body=data if isinstance(data, bytes) else bytes(data))
    response = web.StreamResponse(status=reply.status, headers=headers)
    if reply.status not in _BODILESS:
        response.content_length = len(reply.body) if reply.length is None else reply.length
    return response


def _reason(error: TimeoutError | ConnectionError | DwError) -> str:
    if isinstance(error, DwError):
        return str(error)
    return "client stopped reading" if isinstance(error, TimeoutError) else "client went away"


def _break(request: web.BaseRequest, record: AccessRecord, reason: str) -> None:
    record.error = reason
    telemetry.aborted(record.request_id, reason)
    if request.transport is not None:
        request.transport.abort()
