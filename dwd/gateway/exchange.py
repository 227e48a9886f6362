"""What a handler gets and gives, free of any HTTP library."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field

from dwd.base.clock import Clock
from dwd.gateway.authentication import Identity
from dwd.gateway.body import BodySource, UploadBody
from dwd.gateway.core.head import RequestHead
from dwd.gateway.core.payload import plan_payload
from dwd.gateway.core.routing import Operation
from dwd.gateway.options import GatewayOptions
from dwd.objects.ports import Caller, Objects
from dwd.runtime.files import Buffer

XML_TYPE = "application/xml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One authenticated request."""

    head: RequestHead
    operation: Operation
    identity: Identity
    source: BodySource
    objects: Objects
    clock: Clock
    options: GatewayOptions
    filling: asyncio.Semaphore
    executor: Executor | None

    @property
    def caller(self) -> Caller:
        return self.identity.caller

    def body(self, *, own_checksum: bool = True) -> UploadBody:
        """The body, to be read at most once; x-amz-checksum-* is of these bytes unless `own_checksum` says otherwise.
        Raises InvalidArgument when its head already cannot hold.
        """
        plan = plan_payload(self.head.headers, self.identity.payload, own_checksum=own_checksum)
        return UploadBody(
            self.source,
            plan,
            self.identity.signing,
            self.executor,
            filling=self.filling,
            seconds_for=self.options.transfer_seconds,
            step_seconds=self.options.step_seconds,
        )

    @property
    def secure(self) -> bool:
        """Whether a client may send a key of its own."""
        return self.options.tls is not None or self.options.customer_keys_over_http

    def deadline(self, transfer_bytes: int = 0) -> float:
        """When an operation that moves so many bytes must be done, on the monotonic clock."""
        return self.clock.monotonic() + self.options.transfer_seconds(transfer_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """`stream` carries exactly `length` bytes; without it `body` is all there is. A HEAD names a length, sends none."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Buffer = b""
    stream: AsyncGenerator[Buffer, None] | None = None
    length: int | None = None


Handler = Callable[[Exchange], Awaitable[Reply]]


def xml_reply(document: bytes, headers: Mapping[str, str] | None = None, *, status: int = 200) -> Reply:
    return Reply(status=status, headers={"Content-Type": XML_TYPE, **(headers or {})}, body=document)
