"""The gRPC side of dwctl: one channel to a node that answers, errors as DwError.

grpc takes a quarter of a second to import, so this module is imported only by commands that talk to a cluster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from typing import Any, TypeVar

import grpc

from dwctl.context import ClusterContext
from dwctl.dial import Dial
from dwd.base import limits, wire
from dwd.base.errors import DeadlineExceeded, DwError, OutcomeUnknown, SafetyRefused, Unavailable
from dwd.pb.admin.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    consensus_pb2,
    consensus_pb2_grpc,
    devices_pb2,
    devices_pb2_grpc,
    heal_pb2,
    heal_pb2_grpc,
    jobs_pb2,
    jobs_pb2_grpc,
    keys_pb2,
    keys_pb2_grpc,
    layout_pb2,
    layout_pb2_grpc,
    profiles_pb2,
    profiles_pb2_grpc,
)

SERVER_NAME = "node.dwd"
"""A DNS name every node's certificate carries: operators accept any node of their cluster."""
CALL_SECONDS = 30.0
STREAM_SECONDS = 3600.0

Answer = TypeVar("Answer")


class AdminClient:
    """Calls on the first node that answers. Only connecting is retried elsewhere: a call that was sent is not."""

    def __init__(self, channel: grpc.Channel, address: str, cluster: ClusterContext | None = None) -> None:
        self.address = address
        self.cluster = cluster
        self.pb = admin_pb2
        self.stub = admin_pb2_grpc.AdminStub(channel)
        self.raft_pb = consensus_pb2
        self.raft = consensus_pb2_grpc.ConsensusStub(channel)
        self.heal_pb = heal_pb2
        self.healing = heal_pb2_grpc.HealingStub(channel)
        self.layout_pb = layout_pb2
        self.layouts = layout_pb2_grpc.LayoutsStub(channel)
        self.keys_pb = keys_pb2
        self.keys = keys_pb2_grpc.KeysStub(channel)
        self.profiles_pb = profiles_pb2
        self.profiles = profiles_pb2_grpc.ProfilesStub(channel)
        self.devices_pb = devices_pb2
        self.devices = devices_pb2_grpc.DevicesStub(channel)
        self.jobs_pb = jobs_pb2
        self.jobs = jobs_pb2_grpc.JobsStub(channel)

    def ask(self, method: Callable[..., Answer], request: object, *, seconds: float = CALL_SECONDS) -> Answer:
        """One unary call that changes nothing. Raises DwError."""
        try:
            return method(request, timeout=seconds)
        except grpc.RpcError as error:
            raise translate(error, changing=False) from error

    def change(self, method: Callable[..., Answer], request: object, *, seconds: float = CALL_SECONDS) -> Answer:
        """One unary call that changes something. Raises DwError; OutcomeUnknown when nobody said what became of it."""
        try:
            return method(request, timeout=seconds)
        except grpc.RpcError as error:
            raise translate(error, changing=True) from error

    def stream(
        self, method: Callable[..., Iterator[Answer]], request: object, *, seconds: float = STREAM_SECONDS
    ) -> Iterator[Answer]:
        """A call that changes nothing and answers with a stream. Raises DwError while iterating."""
        try:
            yield from method(request, timeout=seconds)
        except grpc.RpcError as error:
            raise translate(error, changing=False) from error


@contextmanager
def connect(context: ClusterContext) -> Iterator[AdminClient]:
    """A client on the first of the cluster's nodes that answers. Raises Unavailable."""
    try:
        credentials = grpc.ssl_channel_credentials(
            root_certificates=context.authority.read_bytes(),
            private_key=context.key.read_bytes(),
            certificate_chain=context.certificate.read_bytes(),
        )
    except OSError as error:
        raise Unavailable("dwctl.no_certificate", f"cannot read {error.filename}: {error.strerror}") from error
    addresses = [n.grpc for n in context.nodes]
    left_behind: list[str] = []
    with closing(Dial(addresses, credentials, channel_options())) as dial:
        for node in dial.answering():
            # A node that holds nothing yet says 0 and is passed over too: another one knows more.
            if context.recovery_epoch and node.epoch < context.recovery_epoch:
                left_behind.append(node.address)
                continue
            yield AdminClient(node.channel, node.address, context)
            return
    if left_behind:
        raise SafetyRefused(
            "dwctl.only_fenced",
            f"the nodes that answer were left behind by a recovery ({', '.join(left_behind)})",
            hint="what they hold is not what the cluster agreed on since: wipe them, and reach a survivor",
        )
    raise Unavailable(
        "dwctl.no_node_answers",
        f"no node answers ({', '.join(addresses)})",
        hint="see whether the daemons run: `dwctl dev status` or `systemctl status dwd`",
    )


def channel_options() -> list[tuple[str, Any]]:
    return [
        ("grpc.ssl_target_name_override", SERVER_NAME),
        ("grpc.max_receive_message_length", limits.MESSAGE_BYTES_MAX),
        ("grpc.max_send_message_length", limits.MESSAGE_BYTES_MAX),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 1000),
        ("grpc.enable_http_proxy", 0),
    ]


def translate(error: grpc.RpcError, *, changing: bool) -> DwError:
    """The DwError the server sent, or what the status alone says. A change that broke off may have taken effect."""
    metadata: Iterable[Any] = error.trailing_metadata() or ()
    for key, value in metadata:
        if key == wire.METADATA_KEY:
            return wire.decode(value)
    status, details = error.code(), error.details() or "no details"
    broken_off = status in {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE}
    if broken_off and changing:
        return OutcomeUnknown(
            "dwctl.outcome_unknown",
            f"the call broke off, the change may or may not have been made: {details}",
            hint="look whether it was, then try again",
        )
    if status is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded("dwctl.deadline", f"no answer in time: {details}", hint="see `dwctl cluster status`")
    if broken_off:
        return Unavailable("dwctl.connection_lost", f"the node went away during the call: {details}", hint="try again")
    return DwError("dwctl.rpc_failed", f"{status.name}: {details}", hint="the daemon's log says more")
