"""What a leader's reconciler asks of other nodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dwd.base.ids import GroupId, NodeId, ReplicaId
from dwd.pb.raft.v1 import raft_pb2 as pb
from dwd.pb.raft.v1 import raft_pb2_grpc as wire
from dwd.raft.quorum_loss.epochs import Epochs
from dwd.rpc.calls import call
from dwd.rpc.channels import Channels

ADMIN_SECONDS = 10.0


async def create_replica(
    channels: Channels, epochs: Epochs, addresses: Callable[[], Mapping[NodeId, str]],
    node: NodeId, group: GroupId, replica: ReplicaId, *, witness: bool = False, seconds: float = ADMIN_SECONDS,
) -> None:  # fmt: skip
    """`Host.create_replica` on `node`, which learns the addresses. Idempotent, so an unknown outcome may be tried
    again. Raises DwError.
    """
    stub = wire.RaftAdminStub(channels.to(node))
    request = pb.CreateReplicaRequest(group=group, replica=replica, witness=witness, epoch=epochs.current)
    request.addresses.update({int(known): address for known, address in addresses().items()})
    await call(stub.CreateReplica, request, seconds=seconds, mutation=True)


async def drop_replica(
    channels: Channels, epochs: Epochs, node: NodeId, group: GroupId, replica: ReplicaId,
    *, seconds: float = ADMIN_SECONDS,
) -> None:  # fmt: skip
    """`Host.drop_replica` on `node` for a replica that is no longer a member. Idempotent. Raises DwError."""
    stub = wire.RaftAdminStub(channels.to(node))
    request = pb.DropReplicaRequest(group=group, replica=replica, epoch=epochs.current)
    await call(stub.DropReplica, request, seconds=seconds, mutation=True)
