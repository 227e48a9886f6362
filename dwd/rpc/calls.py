"""Calling: a deadline on every call, DwError instead of gRPC's errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import grpc

from dwd.base.errors import DeadlineExceeded
from dwd.rpc.errors import translate

Answer = TypeVar("Answer")
Question = TypeVar("Question")


async def call(
    method: grpc.aio.UnaryUnaryMultiCallable[Question, Answer], request: Question, *, seconds: float, mutation: bool
) -> Answer:
    """One unary call. Raises DwError; with `mutation`, OutcomeUnknown when the peer may have acted on it.

    `seconds` is what is left of the caller's deadline; when nothing is, DeadlineExceeded, and nothing is sent.
    """
    if seconds <= 0:
        raise DeadlineExceeded("rpc.deadline", "no time was left to call another node")
    try:
        return await method(request, timeout=seconds)
    except grpc.RpcError as error:
        raise translate(error, sent=mutation) from error


@contextmanager
def translated(*, sent: bool) -> Iterator[None]:
    """Errors of gRPC inside become DwErrors: for streams, which a caller reads and writes step by step."""
    try:
        yield
    except grpc.RpcError as error:
        raise translate(error, sent=sent) from error
