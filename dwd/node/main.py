"""Runs one daemon from settings to exit code: loop, signals, start, wait, stop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal

import structlog
import uvloop

from dwd.base.errors import DwError
from dwd.base.exits import Exit
from dwd.config.sections import LogFormat
from dwd.config.settings import Settings
from dwd.node.daemon import Daemon
from dwd.node.disk import SYSTEM_DISK, Disk
from dwd.node.faults import Faults
from dwd.observability import logs, tracing
from dwd.runtime.allocator import give_memory_back
from dwd.runtime.notify import notifier_from

_log = structlog.get_logger("dwd.node")

GC_THRESHOLDS = (20_000, 20, 20)
"""Young collections are too rare to be seen in a profile; what lives since the start is never looked at again."""


def run_daemon(settings: Settings, disk: Disk = SYSTEM_DISK, faults: Faults | None = None) -> int:
    """0 after an orderly stop, 1 when the node had to stop by itself. Raises DwError when it could not start."""
    give_memory_back()
    wanted = settings.telemetry.log_format
    logs.configure(
        level=logs.Level(settings.telemetry.log_level.value),
        node=settings.node.name,
        as_json=None if wanted is LogFormat.AUTO else wanted is LogFormat.JSON,
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, disk, faults))


async def _serve(settings: Settings, disk: Disk, faults: Faults | None) -> int:
    gc.set_threshold(*GC_THRESHOLDS)
    stopping = asyncio.Event()
    notifier = notifier_from(os.environ)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    end_tracing = tracing.configure(settings.telemetry.otlp_endpoint, node=settings.node.name)
    daemon = Daemon(settings, on_stop=stopping.set, notifier=notifier, disk=disk, faults=faults)
    try:
        await daemon.start()
        gc.collect()
        gc.freeze()
        _log.info("serving", **daemon.listening())
        await stopping.wait()
        notifier.stopping()
        _log.info("stopping")
    except DwError as error:
        _log.error("cannot start", code=error.code, error=error.message, hint=error.hint)
        raise
    finally:
        await daemon.stop()
        end_tracing()
    _log.info("stopped")
    return Exit.DONE if daemon.failure is None else Exit.FAILED
