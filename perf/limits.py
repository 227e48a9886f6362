"""What the parts below the cluster can do alone: ISA-L, and one gRPC stream under mutual TLS between two processes.

Run as a module it is the serving side of the stream: it prints its port and streams until its input ends.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pyeclib.ec_iface

from dwd.base.ids import ClusterId, NodeId
from dwd.blocks.isal import fragment_math
from dwd.rpc.options import channel_options, server_options
from dwd.runtime.clock import SystemClock
from dwd.security.authority import create_authority
from dwd.security.credentials import request_certificate
from dwd.security.peers import node_server_name
from perf.cluster import cpu_seconds

MIB = 1024 * 1024
MESSAGE_BYTES = MIB
STREAM_SECONDS = 2.0
CODE_SECONDS = 0.5
DATA, PARITY, BLOCK_BYTES = 4, 2, 4 * MIB
NODE = NodeId(1)
METHOD = "/perf.Stream/Pour"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """10^6 bytes a second of payload; `stream_ms_mib` is processor time of both sides a MiB."""

    pyeclib_mb_s: float
    isal_mb_s: float
    stream_mb_s: float
    stream_ms_mib: float


def measure(folder: Path) -> Limits:
    rate, cost = _stream(folder / "stream")
    return Limits(pyeclib_mb_s=_pyeclib_rate(), isal_mb_s=_isal_rate(), stream_mb_s=rate, stream_ms_mib=cost)


def _pyeclib_rate() -> float:
    driver = pyeclib.ec_iface.ECDriver(k=DATA, m=PARITY, ec_type="isa_l_rs_cauchy")
    block = os.urandom(BLOCK_BYTES)
    return _rate(lambda: driver.encode(block))


def _isal_rate() -> float:
    """As the write path calls it."""
    block, size = memoryview(os.urandom(BLOCK_BYTES)), BLOCK_BYTES // DATA
    fragments = [block[at : at + size] for at in range(0, BLOCK_BYTES, size)]
    math = fragment_math()
    return _rate(lambda: math.parity(DATA, PARITY, fragments))


def _rate(work: Any) -> float:
    work()
    done, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < CODE_SECONDS:
        work()
        done += 1
    return done * BLOCK_BYTES / took / 1e6


def _stream(folder: Path) -> tuple[float, float]:
    folder.mkdir()
    clock = SystemClock()
    authority = create_authority(ClusterId("c1" * 16), clock=clock)
    request = request_certificate()
    certificate = authority.sign_node(request.request, NODE, clock=clock)
    for name, content in (("authority", authority.certificate), ("certificate", certificate), ("key", request.key)):
        (folder / name).write_bytes(content)
    serving = subprocess.Popen(
        [sys.executable, "-m", "perf.limits", str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=Path(__file__).resolve().parent.parent,
    )  # fmt: skip
    try:
        port = int(serving.stdout.readline()) if serving.stdout is not None else 0
        return asyncio.run(_drink(folder, port, serving.pid))
    finally:
        serving.kill()
        serving.communicate()


async def _drink(folder: Path, port: int, peer: int) -> tuple[float, float]:
    credentials = grpc.ssl_channel_credentials(*(_pem(folder, name) for name in ("authority", "key", "certificate")))
    options = channel_options(node_server_name(NODE))
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
        call: Any = channel.unary_stream(METHOD)(b"")
        await call.read()
        done, began, cpu = 0, time.perf_counter(), time.process_time() + cpu_seconds(peer)
        while (took := time.perf_counter() - began) < STREAM_SECONDS:
            done += len(await call.read())
        cpu = time.process_time() + cpu_seconds(peer) - cpu
        call.cancel()
    return done / took / 1e6, cpu / (done / MIB) * 1e3


async def _serve(folder: Path) -> None:
    message = os.urandom(MESSAGE_BYTES)

    async def pour(_: bytes, __: grpc.aio.ServicerContext[Any, Any]) -> AsyncIterator[bytes]:
        while True:
            yield message

    server = grpc.aio.server(options=server_options(streams_per_connection=100))
    handler = grpc.method_handlers_generic_handler("perf.Stream", {"Pour": grpc.unary_stream_rpc_method_handler(pour)})
    server.add_generic_rpc_handlers((handler,))
    pair = (_pem(folder, "key"), _pem(folder, "certificate"))
    credentials = grpc.ssl_server_credentials([pair], _pem(folder, "authority"), require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    await server.start()
    print(port, flush=True)
    await asyncio.to_thread(sys.stdin.read)


def _pem(folder: Path, name: str) -> bytes:
    return (folder / name).read_bytes()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
