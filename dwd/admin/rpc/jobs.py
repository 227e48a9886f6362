"""The Jobs service: messages in, messages out; the verbs stand in `dwd.jobs.book`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc

from dwd.admin.context import TRANSFER_SECONDS, AdminContext
from dwd.admin.why import explain
from dwd.base.errors import InvalidArgument
from dwd.base.ids import JobId, NodeId, hex_id, job_name, parse_job_name, stamp_ms
from dwd.meta.core.control.job_queries import NEWEST
from dwd.meta.core.control.job_rows import JobRow, JobWish
from dwd.pb.admin.v1 import jobs_pb2 as pb
from dwd.pb.admin.v1 import jobs_pb2_grpc
from dwd.rpc.guard import peer_of

Context = grpc.aio.ServicerContext[Any, Any]
_WISHES: Mapping[int, JobWish] = {
    pb.JOB_ACTION_PAUSE: JobWish.PAUSE,
    pb.JOB_ACTION_RESUME: JobWish.RESUME,
    pb.JOB_ACTION_CANCEL: JobWish.CANCEL,
}
LIST_DEFAULT = 100


class JobsServicer(jobs_pb2_grpc.JobsServicer):
    """One a node."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context

    def register(self, server: grpc.aio.Server) -> None:
        """Serve this from `server`, which has not started yet."""
        jobs_pb2_grpc.add_JobsServicer_to_server(self, server)

    async def PlanJob(self, request: pb.PlanJobRequest, context: Context) -> pb.JobPlanInfo:
        arguments = dict(request.arguments)
        plan, found = await self._context.jobs.plan(request.kind, arguments, force=request.force)
        return pb.JobPlanInfo(
            kind=request.kind,
            arguments=arguments,
            steps=plan.steps,
            lines=plan.lines,
            warnings=plan.warnings,
            estimates=plan.estimates,
            total=plan.total,
            unit=plan.unit,
            hash=found,
        )

    async def StartJob(self, request: pb.StartJobRequest, context: Context) -> pb.StartJobReply:
        job, existed = await self._context.jobs.start(
            request.kind,
            dict(request.arguments),
            agreed=request.plan_hash,
            force=request.force,
            asked_by=str(peer_of(context)),
            deadline=self._context.deadline(),
        )
        return pb.StartJobReply(job=job_name(job), existed=existed)

    async def ListJobs(self, request: pb.ListJobsRequest, context: Context) -> pb.ListJobsReply:
        page = await self._context.jobs.page(
            over=request.over,
            kind=request.kind,
            before=parse_job_name(request.before) if request.before else NEWEST,
            limit=request.limit or LIST_DEFAULT,
            deadline=self._context.deadline(),
        )
        return pb.ListJobsReply(jobs=[self._message(row) for row in page.jobs], more=page.more)

    async def GetJob(self, request: pb.GetJobRequest, context: Context) -> pb.JobInfo:
        return self._message(await self._context.jobs.get(_job(request.job), deadline=self._context.deadline()))

    async def WatchJob(self, request: pb.WatchJobRequest, context: Context) -> AsyncIterator[pb.JobInfo]:
        job, deadline = _job(request.job), self._context.deadline(TRANSFER_SECONDS)
        async for row in self._context.jobs.watch(job, deadline=deadline):
            yield self._message(row)

    async def SetJob(self, request: pb.SetJobRequest, context: Context) -> pb.JobInfo:
        wish = _WISHES.get(request.action)
        if wish is None:
            raise InvalidArgument("job.action", "say pause, resume or cancel")
        row = await self._context.jobs.ask(_job(request.job), wish, deadline=self._context.deadline())
        return self._message(row)

    async def Explain(self, request: pb.ExplainRequest, context: Context) -> pb.ExplainReply:
        found = await explain(self._context, request.id)
        return pb.ExplainReply(
            id=found.id,
            what=found.what,
            standing=found.standing,
            reasons=[pb.Reason(about=r.about, waits_for=r.waits_for, next=r.next) for r in found.reasons],
        )

    def _message(self, row: JobRow) -> pb.JobInfo:
        runner = self._context.meta.view.topology().node(row.runner) if row.runner else None
        return pb.JobInfo(
            job=job_name(row.job),
            kind=row.kind,
            arguments={argument.name: argument.value for argument in row.arguments},
            state=row.state.name.lower(),
            step=row.step,
            steps=row.plan.steps,
            step_name="" if row.over else row.step_name,
            done=row.done,
            total=row.total,
            unit=row.plan.unit,
            blocker=row.blocker,
            result=row.result,
            error_code=row.error_code,
            error=row.error,
            runner=hex_id(row.runner) if row.runner else "",
            runner_name=runner.name if runner is not None else _unnamed(row.runner),
            epoch=row.epoch,
            attempts=row.attempts,
            asked_by=row.asked_by,
            created_unix_ms=stamp_ms(row.created),
            updated_unix_ms=stamp_ms(row.updated),
            lines=row.plan.lines,
            warnings=row.plan.warnings,
            plan_hash=row.plan_hash,
            over=row.over,
            now_unix_ms=self._context.clock.unix_ms(),
        )


def _job(text: str) -> JobId:
    return parse_job_name(text)


def _unnamed(node: NodeId) -> str:
    return hex_id(node) if node else ""
