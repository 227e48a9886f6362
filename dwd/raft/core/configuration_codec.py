"""How a configuration rides in a CONFIGURATION entry: the whole of it, so that a learner that starts with an empty
log learns everything from one entry.

    version u8 = 1 | count u16 | count x (node u64 | replica u64 | role u8 | priority u32)     big-endian
"""

from __future__ import annotations

import struct

from dwd.base.errors import Corrupt
from dwd.base.ids import NodeId, ReplicaId
from dwd.raft.core.types import Configuration, Member, MemberRole

VERSION = 1
MEMBERS_MAX = 64

_HEAD = struct.Struct(">BH")
_MEMBER = struct.Struct(">QQBI")


def encode_configuration(configuration: Configuration) -> bytes:
    head = _HEAD.pack(VERSION, len(configuration.members))
    return head + b"".join(_MEMBER.pack(m.node, m.replica, m.role, m.priority) for m in configuration.members)


def decode_configuration(payload: bytes) -> Configuration:
    """The inverse of `encode_configuration`. Raises Corrupt."""
    if len(payload) < _HEAD.size:
        raise Corrupt("raft.configuration", "a configuration entry is too short")
    version, count = _HEAD.unpack_from(payload)
    if version != VERSION:
        raise Corrupt("raft.configuration", f"a configuration entry of unknown version {version}")
    if count > MEMBERS_MAX or len(payload) != _HEAD.size + count * _MEMBER.size:
        raise Corrupt("raft.configuration", "a configuration entry's length is wrong")
    try:
        members = tuple(
            Member(node=NodeId(node), replica=ReplicaId(replica), role=MemberRole(role), priority=priority)
            for node, replica, role, priority in _MEMBER.iter_unpack(payload[_HEAD.size :])
        )
    except ValueError as error:
        raise Corrupt("raft.configuration", "a configuration entry names an unknown role") from error
    return Configuration(members=members)
