"""GET /bucket?setting: what clients probe a bucket for, answered as AWS answers for a bucket where it was never set.

Source: AWS GetBucketLocation, GetBucketVersioning, GetBucketAcl and their like.
"""

from __future__ import annotations

from dwd.base.errors import InvariantViolation, NotFound
from dwd.gateway.core.documents import access_control
from dwd.gateway.core.encryption import bucket_encryption_document
from dwd.gateway.core.routing import BUCKET_SETTINGS
from dwd.gateway.core.xml_write import NAMESPACE, document, element, escape
from dwd.gateway.exchange import Exchange, Reply, xml_reply
from dwd.objects.encryption import EncryptionMode

_DEFAULT_REGION = "us-east-1"

_DOCUMENTS = {
    "accelerate": document("AccelerateConfiguration"),
    "logging": document("BucketLoggingStatus"),
    "notification": document("NotificationConfiguration"),
    "ownershipControls": document(
        "OwnershipControls", "<Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule>"
    ),
    "publicAccessBlock": document(
        "PublicAccessBlockConfiguration",
        *(
            element(name, value=True)
            for name in ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
        ),
    ),
    "requestPayment": document("RequestPaymentConfiguration", "<Payer>BucketOwner</Payer>"),
    "versioning": document("VersioningConfiguration"),
}
_ABSENT = {
    "cors": ("s3.no_cors", "The CORS configuration does not exist"),
    "lifecycle": ("s3.no_lifecycle", "The lifecycle configuration does not exist"),
    "object-lock": ("s3.no_object_lock", "Object Lock configuration does not exist for this bucket"),
    "policy": ("s3.no_bucket_policy", "The bucket policy does not exist"),
    "policyStatus": ("s3.no_bucket_policy", "The bucket policy does not exist"),
    "replication": ("s3.no_replication", "The replication configuration was not found"),
    "tagging": ("s3.no_tags", "The TagSet does not exist"),
    "website": ("s3.no_website", "The specified bucket does not have a website configuration"),
}

if {*_DOCUMENTS, *_ABSENT, "acl", "encryption", "location"} != BUCKET_SETTINGS:
    raise InvariantViolation("every readable bucket setting has an answer")


async def handle(exchange: Exchange) -> Reply:
    info = await exchange.objects.bucket(exchange.caller, exchange.head.bucket, deadline=exchange.deadline())
    setting = next(name for name in exchange.head.query if name in BUCKET_SETTINGS)
    if setting == "acl":
        return xml_reply(access_control(info.owner))
    if setting == "location":
        return xml_reply(_location(exchange.options.region))
    if setting == "encryption":
        if info.encryption.mode is EncryptionMode.NONE:
            raise NotFound(
                "s3.no_encryption", "The server side encryption configuration was not found", bucket=info.name
            )
        return xml_reply(bucket_encryption_document(info.encryption))
    if setting in _ABSENT:
        code, message = _ABSENT[setting]
        raise NotFound(code, message, bucket=info.name)
    return xml_reply(_DOCUMENTS[setting])


def _location(region: str) -> bytes:
    """An empty element means us-east-1."""
    name = "" if region == _DEFAULT_REGION else escape(region)
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<LocationConstraint xmlns="{NAMESPACE}">{name}</LocationConstraint>'
    ).encode()
