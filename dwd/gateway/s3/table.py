"""Which handler serves which operation."""

from __future__ import annotations

from dwd.base.errors import InvariantViolation
from dwd.gateway.core.routing import Operation
from dwd.gateway.exchange import Handler
from dwd.gateway.s3 import (
    bucket_delete,
    bucket_delete_encryption,
    bucket_get,
    bucket_get_setting,
    bucket_get_uploads,
    bucket_head,
    bucket_post_delete,
    bucket_put,
    bucket_put_encryption,
    object_copy,
    object_delete,
    object_get,
    object_get_setting,
    object_head,
    object_put,
    service_get,
    upload_complete,
    upload_copy_part,
    upload_delete,
    upload_get,
    upload_post,
    upload_put_part,
)

HANDLERS: dict[Operation, Handler] = {
    Operation.LIST_BUCKETS: service_get.handle,
    Operation.CREATE_BUCKET: bucket_put.handle,
    Operation.HEAD_BUCKET: bucket_head.handle,
    Operation.DELETE_BUCKET: bucket_delete.handle,
    Operation.LIST_OBJECTS: bucket_get.handle,
    Operation.LIST_OBJECTS_V2: bucket_get.handle,
    Operation.LIST_UPLOADS: bucket_get_uploads.handle,
    Operation.DELETE_OBJECTS: bucket_post_delete.handle,
    Operation.GET_BUCKET_SETTING: bucket_get_setting.handle,
    Operation.PUT_BUCKET_ENCRYPTION: bucket_put_encryption.handle,
    Operation.DELETE_BUCKET_ENCRYPTION: bucket_delete_encryption.handle,
    Operation.PUT_OBJECT: object_put.handle,
    Operation.GET_OBJECT: object_get.handle,
    Operation.HEAD_OBJECT: object_head.handle,
    Operation.DELETE_OBJECT: object_delete.handle,
    Operation.COPY_OBJECT: object_copy.handle,
    Operation.GET_OBJECT_SETTING: object_get_setting.handle,
    Operation.CREATE_UPLOAD: upload_post.handle,
    Operation.UPLOAD_PART: upload_put_part.handle,
    Operation.UPLOAD_PART_COPY: upload_copy_part.handle,
    Operation.COMPLETE_UPLOAD: upload_complete.handle,
    Operation.ABORT_UPLOAD: upload_delete.handle,
    Operation.LIST_PARTS: upload_get.handle,
}

if HANDLERS.keys() != set(Operation):
    raise InvariantViolation("every operation has a handler")
