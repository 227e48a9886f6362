"""The Keys service: messages in, messages out; the verbs themselves stand in `dwd.admin.keys`."""

from __future__ import annotations

from typing import Any

import grpc

from dwd.admin import keys
from dwd.admin.context import AdminContext
from dwd.base.ids import stamp_ms
from dwd.meta.core.control.rows import NamedKeyRow, Standing
from dwd.pb.admin.v1 import keys_pb2 as pb
from dwd.pb.admin.v1 import keys_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class KeysServicer(keys_pb2_grpc.KeysServicer):
    """One a node."""

    def __init__(self, context: AdminContext) -> None:
        self._context = context

    def register(self, server: grpc.aio.Server) -> None:
        """Serve this from `server`, which has not started yet."""
        keys_pb2_grpc.add_KeysServicer_to_server(self, server)

    async def KeyringStatus(self, request: pb.KeyringStatusRequest, context: Context) -> pb.KeyringStatusReply:
        found = await keys.keyring_status(self._context)
        return pb.KeyringStatusReply(
            version=found.version,
            versions=found.versions,
            sealed=[
                pb.SealedCount(kind=kind.name.lower().replace("_", " "), version=version, count=count)
                for (kind, version), count in sorted(found.sealed.items())
            ],
            named_keys=[_named_key(row) for row in found.named_keys],
            defaults=_defaults(keys.defaults(self._context)),
        )

    async def CreateNamedKey(self, request: pb.CreateNamedKeyRequest, context: Context) -> pb.NamedKey:
        return _named_key(await keys.create_named_key(self._context, request.name))

    async def SetNamedKey(self, request: pb.SetNamedKeyRequest, context: Context) -> pb.NamedKey:
        return _named_key(await keys.set_named_key(self._context, request.name, enabled=request.enabled))

    async def SetBucketAtRest(self, request: pb.SetBucketAtRestRequest, context: Context) -> pb.BucketAtRest:
        found = await keys.set_bucket_at_rest(
            self._context,
            request.name,
            compression=request.compression if request.HasField("compression") else None,
            encryption=request.encryption,
            named_key=request.named_key,
        )
        return pb.BucketAtRest(
            name=found.name,
            compression=found.compression,
            encryption=keys.encryption_name(found.encryption),
            named_key=found.encryption.named_key,
        )

    async def SetDefaults(self, request: pb.SetDefaultsRequest, context: Context) -> pb.Defaults:
        compression = request.compression if request.HasField("compression") else None
        return _defaults(await keys.set_defaults(self._context, compression=compression, encryption=request.encryption))


def _named_key(row: NamedKeyRow) -> pb.NamedKey:
    return pb.NamedKey(name=row.name, enabled=row.standing is Standing.ENABLED, created_unix_ms=stamp_ms(row.created))


def _defaults(found: keys.Defaults) -> pb.Defaults:
    return pb.Defaults(compression=found.compression, encryption=keys.ON if found.encryption else keys.OFF)
