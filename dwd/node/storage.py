"""What this node keeps on disk: the Raft log and the devices."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

import structlog

from dwd.base.errors import DwError
from dwd.base.ids import DeviceId, hex_id
from dwd.blocks.service import LocalFragments
from dwd.node.device_keeper import DeviceKeeper
from dwd.node.devices import DeviceOpener, DeviceSet, DeviceSetup, open_devices
from dwd.node.surroundings import Surroundings
from dwd.raft.log.store import RaftLog, RaftLogOptions
from dwd.runtime.tasks import Tasks

DEVICE_THREADS = 8
"""Of each device."""
_log = structlog.get_logger("dwd.node")


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    log: RaftLog
    devices: DeviceSet
    keeper: DeviceKeeper
    fragments: LocalFragments

    @classmethod
    @asynccontextmanager
    async def open(cls, around: Surroundings) -> AsyncIterator[Storage]:
        """Raises StorageFailed, Corrupt, VersionRefused; a device that cannot serve does not stop the node."""
        settings = around.settings
        async with AsyncExitStack() as stack:
            log = await RaftLog.open(
                files=around.files,
                directory=around.paths.log,
                rng=around.rng,
                on_fatal=around.on_fatal,
                options=RaftLogOptions(budget_bytes=settings.raft.log_bytes_max),
                distrusted=around.data_is_old,
            )
            stack.push_async_callback(log.close)
            around.starts.renew(around.paths.data)
            setup = DeviceSetup(
                files=around.files,
                vfs=around.vfs,
                paths=around.paths,
                cluster=around.identity.cluster_id,
                make_pool=partial(_threads, stack),
                clock=around.clock,
                rng=around.rng,
                volume_bytes=settings.blocks.volume_bytes,
                reserve_share=settings.blocks.reserve_percent / 100,
                data_is_fresh=around.claim.fresh,
                starts=around.starts,
                on_failed=_device_failed,
            )
            opener = DeviceOpener(setup, settings.devices)
            devices = await open_devices(setup, opener)
            fragments = LocalFragments(around.clock) if around.faults is None else around.faults.fragments()
            stack.push_async_callback(fragments.close)
            for device in devices.open_devices():
                fragments.add(device)
            tasks = await stack.enter_async_context(Tasks("devices", lambda _name, error: around.on_fatal(error)))
            keeper = DeviceKeeper(opener=opener, fragments=fragments, tasks=tasks)
            yield cls(log=log, devices=devices, keeper=keeper, fragments=fragments)


def _threads(stack: AsyncExitStack) -> ThreadPoolExecutor:
    """Nobody waits for those of a disk that hangs."""
    pool = ThreadPoolExecutor(DEVICE_THREADS, thread_name_prefix="dwd-device")
    stack.callback(pool.shutdown, wait=False)
    return pool


def _device_failed(device: DeviceId, error: DwError) -> None:
    """The announcer tells control; here it is only said aloud."""
    _log.error("device failed", device=hex_id(device), code=error.code, error=error.message)
