"""The Admin service: messages in, messages out; the verbs themselves stand in `dwd.admin`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc

from dwd.admin import joins, keys, profiles, users
from dwd.admin.context import OPERATOR, AdminContext
from dwd.admin.newcomer import Newcomer
from dwd.admin.rpc import objects, status, workers
from dwd.base.errors import InvalidArgument, PermissionDenied
from dwd.base.ids import NodeId, parse_hex_id, stamp_ms
from dwd.base.policy import tier_name
from dwd.meta.core.control.rows import AccessKeyRow, Domain, NodeAddresses, Standing
from dwd.meta.core.shard.queries import GetUsage
from dwd.objects.ports import BucketInfo, Caller
from dwd.pb.admin.v1 import admin_pb2 as pb
from dwd.pb.admin.v1 import admin_pb2_grpc
from dwd.rpc.guard import peer_of
from dwd.security.peers import PeerKind

Context = grpc.aio.ServicerContext[Any, Any]


class AdminServicer(admin_pb2_grpc.AdminServicer):
    """One a node."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context

    def register(self, server: grpc.aio.Server) -> None:
        """Serve this from `server`, which has not started yet."""
        admin_pb2_grpc.add_AdminServicer_to_server(self, server)

    async def ClusterStatus(self, request: pb.ClusterStatusRequest, context: Context) -> pb.ClusterStatusReply:
        return await status.cluster_status(self._context)

    async def NodeStatus(self, request: pb.NodeStatusRequest, context: Context) -> pb.NodeStatusReply:
        return await status.node_status(self._context)

    async def CreateJoinToken(self, request: pb.CreateJoinTokenRequest, context: Context) -> pb.CreateJoinTokenReply:
        made = await joins.create_token(self._context, minutes=request.minutes)
        return pb.CreateJoinTokenReply(token=made.token, token_id=made.token_id, expires_unix_ms=made.expires_unix_ms)

    async def Join(self, request: pb.JoinRequest, context: Context) -> pb.JoinReply:
        peer = peer_of(context)
        if peer.kind is not PeerKind.JOIN:
            raise PermissionDenied("token.needed", "joining takes a join token's certificate")
        newcomer = Newcomer(
            node=NodeId(parse_hex_id(request.node_id)),
            name=request.name,
            request=request.certificate_request,
            sealing_key=request.sealing_key,
            addresses=NodeAddresses(grpc=request.grpc, s3=request.s3, admin=request.admin),
            domain=Domain(region=request.region, zone=request.zone, rack=request.rack),
        )
        welcome = await joins.join(self._context, peer.name, newcomer)
        return pb.JoinReply(
            cluster_id=self._context.cluster,
            certificate=welcome.certificate,
            authority=welcome.authority,
            sealed_keyring=welcome.sealed_keyring,
            nodes=[status.node_info(row) for row in welcome.topology.nodes],
        )

    async def ListWorkers(self, request: pb.ListWorkersRequest, context: Context) -> pb.ListWorkersReply:
        return await workers.list_workers(self._context, local=request.local)

    async def SetWorker(self, request: pb.SetWorkerRequest, context: Context) -> pb.SetWorkerReply:
        return await workers.set_worker(self._context, request)

    async def CreateBucket(self, request: pb.CreateBucketRequest, context: Context) -> pb.Bucket:
        owner = request.owner or await users.first_admin(self._context)
        caller = Caller(user=owner, access_key="", admin=True)
        made = await self._context.objects.create_bucket(
            caller,
            request.name,
            policy=profiles.parse_policy(
                profile=request.profile,
                tier=request.tier,
                criticality=request.criticality,
                allow_fallback=request.allow_fallback,
            ),
            compression=request.compression if request.HasField("compression") else None,
            encryption=keys.parse_encryption(request.encryption, request.named_key),
            deadline=self._context.deadline(),
        )
        return _bucket(made, self._context)

    async def DeleteBucket(self, request: pb.DeleteBucketRequest, context: Context) -> pb.DeleteBucketReply:
        await self._context.objects.delete_bucket(OPERATOR, request.name, deadline=self._context.deadline())
        return pb.DeleteBucketReply()

    async def ListBuckets(self, request: pb.ListBucketsRequest, context: Context) -> pb.ListBucketsReply:
        deadline = self._context.deadline()
        caller = Caller(user="operator", access_key="", admin=True)
        found = {
            b.name: _bucket(b, self._context) for b in await self._context.objects.buckets(caller, deadline=deadline)
        }
        holders = (group for bucket in found for group in self._context.meta.holders(bucket))
        for group in dict.fromkeys(holders):
            after, more = "", True
            while more:
                answer = await self._context.meta.read_group(group, GetUsage(after=after), deadline=deadline)
                for usage in answer.buckets:
                    after = usage.bucket
                    if usage.bucket in found:
                        found[usage.bucket].objects += usage.objects
                        found[usage.bucket].bytes += usage.bytes
                        found[usage.bucket].packed_bytes += usage.packed
                        found[usage.bucket].stored_bytes += usage.stored
                more = answer.more
        return pb.ListBucketsReply(buckets=found.values())

    async def PutObject(self, request_iterator: AsyncIterator[pb.PutObjectRequest], context: Context) -> pb.Object:
        return await objects.put(self._context, request_iterator)

    async def GetObject(self, request: pb.GetObjectRequest, context: Context) -> AsyncIterator[pb.GetObjectReply]:
        async for reply in objects.get(self._context, request):
            yield reply

    async def StatObject(self, request: pb.StatObjectRequest, context: Context) -> pb.Object:
        info = await self._context.objects.head(
            OPERATOR, request.bucket, request.key, deadline=self._context.deadline()
        )
        return objects.object_message(info)

    async def DeleteObject(self, request: pb.DeleteObjectRequest, context: Context) -> pb.DeleteObjectReply:
        existed = await self._context.objects.delete(
            OPERATOR, request.bucket, request.key, deadline=self._context.deadline()
        )
        return pb.DeleteObjectReply(existed=existed)

    async def ListObjects(self, request: pb.ListObjectsRequest, context: Context) -> pb.ListObjectsReply:
        return await objects.list_objects(self._context, request)

    async def CreateUser(self, request: pb.CreateUserRequest, context: Context) -> pb.User:
        return _user(await users.create_user(self._context, request.name, admin=request.admin))

    async def SetUser(self, request: pb.SetUserRequest, context: Context) -> pb.User:
        enabled = request.enabled if request.HasField("enabled") else None
        return _user(await users.set_user(self._context, request.name, enabled=enabled))

    async def DeleteUser(self, request: pb.DeleteUserRequest, context: Context) -> pb.DeleteUserReply:
        await users.delete_user(self._context, request.name)
        return pb.DeleteUserReply()

    async def ListUsers(self, request: pb.ListUsersRequest, context: Context) -> pb.ListUsersReply:
        return pb.ListUsersReply(users=[_user(view) for view in await users.list_users(self._context)])

    async def CreateAccessKey(self, request: pb.CreateAccessKeyRequest, context: Context) -> pb.AccessKey:
        if not request.user:
            raise InvalidArgument("user.bad_name", "name the user whose key it is")
        made = await users.create_access_key(self._context, request.user)
        now_ms = self._context.clock.unix_ms()
        return pb.AccessKey(id=made.id, user=request.user, secret=made.secret, enabled=True, created_unix_ms=now_ms)

    async def SetAccessKey(self, request: pb.SetAccessKeyRequest, context: Context) -> pb.AccessKey:
        enabled = request.enabled if request.HasField("enabled") else None
        return _key(await users.set_access_key(self._context, request.id, enabled=enabled))

    async def DeleteAccessKey(self, request: pb.DeleteAccessKeyRequest, context: Context) -> pb.DeleteAccessKeyReply:
        await users.delete_access_key(self._context, request.id)
        return pb.DeleteAccessKeyReply()


def _bucket(info: BucketInfo, context: AdminContext) -> pb.Bucket:
    return pb.Bucket(
        name=info.name,
        owner=info.owner,
        profile=info.policy.profile,
        created_unix_ms=info.created_unix_ms,
        tier=tier_name(info.policy.tier),
        criticality=info.policy.criticality.name.lower(),
        allow_fallback=info.policy.allow_fallback,
        stored_as=profiles.stored_as(context, info.policy),
        compression=info.compression,
        encryption=keys.encryption_name(info.encryption),
        named_key=info.encryption.named_key,
    )


def _user(view: users.UserView) -> pb.User:
    return pb.User(
        name=view.user.name,
        admin=view.user.admin,
        enabled=view.user.standing is Standing.ENABLED,
        created_unix_ms=stamp_ms(view.user.created),
        keys=[_key(row) for row in view.keys],
    )


def _key(row: AccessKeyRow) -> pb.AccessKey:
    return pb.AccessKey(
        id=row.access_key,
        user=row.user,
        enabled=row.standing is Standing.ENABLED,
        created_unix_ms=stamp_ms(row.created),
    )
