"""What this node keeps on disk: the Raft log and the devices."""

from __future__ import annotations

from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog

from dwd.base.errors import DwError
from dwd.base.ids import DeviceId, hex_id
from dwd.blocks.service import LocalFragments
from dwd.node.devices import DeviceSet, DeviceSetup, open_devices
from dwd.node.surroundings import Surroundings
from dwd.raft.log.store import RaftLog, RaftLogOptions

DEVICE_THREADS = 8
_log = structlog.get_logger("dwd.node")


@dataclass(frozen=True, slots=True, kw_only=True)
class Storage:
    log: RaftLog
    devices: DeviceSet
    fragments: LocalFragments

    @classmethod
    @asynccontextmanager
    async def open(cls, around: Surroundings) -> AsyncIterator[Storage]:
        """Raises StorageFailed, Corrupt, VersionRefused; a device that cannot serve does not stop the node."""
        settings = around.settings
        async with AsyncExitStack() as stack:
            pool = ThreadPoolExecutor(DEVICE_THREADS, thread_name_prefix="dwd-device")
            stack.callback(pool.shutdown)
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
                pool=pool,
                clock=around.clock,
                rng=around.rng,
                volume_bytes=settings.blocks.volume_bytes,
                reserve_share=settings.blocks.reserve_percent / 100,
                data_is_fresh=around.claim.fresh,
                starts=around.starts,
                on_failed=_device_failed,
            )
            devices = await open_devices(setup, settings.devices)
            fragments = LocalFragments(around.clock)
            stack.push_async_callback(fragments.close)
            for device in devices.open_devices():
                fragments.add(device)
            yield cls(log=log, devices=devices, fragments=fragments)


def _device_failed(device: DeviceId, error: DwError) -> None:
    """The announcer tells control; here it is only said aloud."""
    _log.error("device failed", device=hex_id(device), code=error.code, error=error.message)
