"""What every command shares: options, the client opened late, JSON of messages.

grpc and protobuf together take a third of a second to import; they are imported when a command first connects.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dwctl.context import ClusterContext, NodeEntry, find_cluster, learn
from dwctl.output import Output

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from dwctl.client import AdminClient
    from dwd.pb.admin.v1 import admin_pb2

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
ContextOption = Annotated[
    str | None,
    typer.Option(
        "--context", help="A context name or a cluster.json; default: $DWCTL_CLUSTER, then the current context."
    ),
]
YesFlag = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
GROUP_MAX = (1 << 64) - 1
GroupArgument = Annotated[int, typer.Argument(min=0, max=GROUP_MAX, help="The group; 0 is control.")]
STATUS_SECONDS = 10.0
"""For a status: the node that is asked asks all others, and waits for each a few seconds at most."""


@contextmanager
def admin(context: str | None) -> Iterator[AdminClient]:
    """A connected client of the chosen cluster. Raises DwError."""
    with connected(find_cluster(context)) as client:
        yield client


@contextmanager
def connected(cluster: ClusterContext) -> Iterator[AdminClient]:
    """A connected client of `cluster`. Raises DwError."""
    from dwctl.client import connect

    with connect(cluster) as client:
        yield client


def cluster_status(client: AdminClient) -> admin_pb2.ClusterStatusReply:
    """The cluster's status; where its nodes are is remembered for a time when fewer of them answer."""
    found = client.ask(client.stub.ClusterStatus, client.pb.ClusterStatusRequest(), seconds=STATUS_SECONDS)
    if client.cluster is not None:
        nodes = (NodeEntry(id=n.id, name=n.name, grpc=n.grpc, s3=n.s3, admin=n.admin, data_dir="") for n in found.nodes)
        learn(client.cluster, nodes, recovery_epoch=found.recovery_epoch)
    return found


def as_document(message: Message) -> dict[str, Any]:
    """A protobuf message as plain JSON values; 64-bit integers stay numbers, empty fields are shown, a message that is
    not there is null.
    """
    document: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            document[field.name] = dict(value)
        elif field.is_repeated:
            document[field.name] = [as_document(v) if field.message_type else v for v in value]
        elif field.message_type is not None:
            document[field.name] = as_document(value) if message.HasField(field.name) else None
        else:
            document[field.name] = value
    return document


def output(as_json: bool) -> Output:
    return Output(as_json=as_json)
