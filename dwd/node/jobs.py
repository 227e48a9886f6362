"""Jobs on this node: which kinds it knows, one entry a kind, made from the parts of the node; and what runs them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import structlog

from dwd.base.clock import Clock
from dwd.blocks.profile_job import ProfileKind
from dwd.blocks.recount import Recount
from dwd.blocks.reports import Reports
from dwd.blocks.store import ErasureBlockStore
from dwd.blocks.topology import Topology
from dwd.blocks.verify_job import VerifyKind
from dwd.jobs.book import JobBook
from dwd.jobs.kinds import JobKind
from dwd.jobs.runner import JobRunner
from dwd.lifecycle.device_drain import DeviceDrainKind, DeviceUndrainKind
from dwd.lifecycle.device_facts import DeviceFleet
from dwd.lifecycle.device_retire import DeviceRetireKind
from dwd.lifecycle.drain import DrainKind, UndrainKind
from dwd.lifecycle.gather import Survey
from dwd.lifecycle.remove import RemoveKind
from dwd.lifecycle.replace import ReplaceKind
from dwd.lifecycle.scrub import ScrubKind
from dwd.meta.client import MetaClient
from dwd.node.keyring_job import RotateKind
from dwd.node.surroundings import Surroundings
from dwd.runtime.tasks import Tasks

_log = structlog.get_logger("dwd.node")


@dataclass(frozen=True, slots=True, kw_only=True)
class KindParts:
    """What kinds are made of."""

    meta: MetaClient
    clock: Clock
    recount: Recount
    found: Reports
    survey: Survey
    devices: DeviceFleet
    store: ErasureBlockStore
    topology: Topology
    reencode_bytes_per_second: int


def job_kinds(around: Surroundings, parts: KindParts) -> tuple[JobKind, ...]:
    return (
        VerifyKind(meta=parts.meta, recount=parts.recount, found=parts.found, clock=parts.clock),
        DrainKind(parts.survey),
        UndrainKind(parts.survey),
        ReplaceKind(parts.survey),
        RemoveKind(parts.survey),
        ProfileKind(
            meta=parts.meta,
            store=parts.store,
            topology=parts.topology,
            clock=parts.clock,
            bytes_per_second=parts.reencode_bytes_per_second,
        ),
        DeviceDrainKind(parts.survey),
        DeviceUndrainKind(parts.survey),
        DeviceRetireKind(parts.survey),
        ScrubKind(parts.meta, parts.devices),
        RotateKind(node=around.identity.node_id, meta=parts.meta, ring=around.keyring, clock=parts.clock),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeJobs:
    """`runner` is a worker, to be set to work with the others; what it runs is given back at the end."""

    book: JobBook
    runner: JobRunner

    @classmethod
    @asynccontextmanager
    async def open(cls, around: Surroundings, parts: KindParts) -> AsyncIterator[NodeJobs]:
        kinds = job_kinds(around, parts)
        async with Tasks("jobs", _failed) as tasks:
            yield cls(
                book=JobBook(meta=parts.meta, kinds=kinds, clock=around.clock),
                runner=JobRunner(
                    node=around.identity.node_id,
                    meta=parts.meta,
                    kinds=kinds,
                    tasks=tasks,
                    clock=around.clock,
                    rng=around.rng,
                ),
            )


def _failed(name: str, error: BaseException) -> None:
    """A defect: the job's lease lapses, and another node takes it."""
    _log.error("running a job failed", task=name, exc_info=error)
