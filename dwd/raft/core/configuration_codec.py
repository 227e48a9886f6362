"""How a configuration rides in a CONFIGURATION entry: the whole of it, so that a learner that starts with an empty
log learns everything from one entry. All numbers are big-endian.

    version u8 = 1 | count u16 | count x (node u64 | replica u64 | role u8 | priority u32)
    version u8 = 2 | as version 1 | outgoing u16 | that many replica u64 | leaving u16 | that many replica u64

Version 2 is written only for what version 1 cannot say, joint configurations and witnesses: so a group that uses
neither can still be read by a daemon that knows neither.
"""

from __future__ import annotations

import struct

from dwd.base.errors import Corrupt
from dwd.base.ids import NodeId, ReplicaId
from dwd.raft.core.types import Configuration, Member, MemberRole

PLAIN, JOINT = 1, 2
MEMBERS_MAX = 64

_HEAD = struct.Struct(">BH")
_MEMBER = struct.Struct(">QQBI")
_COUNT = struct.Struct(">H")


def encode_configuration(configuration: Configuration) -> bytes:
    members = configuration.members
    plain = not configuration.is_joint and all(m.role is not MemberRole.WITNESS for m in members)
    head = _HEAD.pack(PLAIN if plain else JOINT, len(members))
    body = b"".join(_MEMBER.pack(m.node, m.replica, m.role, m.priority) for m in members)
    if plain:
        return head + body
    return head + body + _encode_ids(configuration.outgoing) + _encode_ids(configuration.leaving)


def decode_configuration(payload: bytes) -> Configuration:
    """The inverse of `encode_configuration`. Raises Corrupt."""
    try:
        version, count = _HEAD.unpack_from(payload)
        if version not in {PLAIN, JOINT}:
            raise Corrupt("raft.configuration", f"a configuration entry of unknown version {version}")
        end = _HEAD.size + count * _MEMBER.size
        members = tuple(
            Member(node=NodeId(node), replica=ReplicaId(replica), role=MemberRole(role), priority=priority)
            for node, replica, role, priority in _MEMBER.iter_unpack(payload[_HEAD.size : end])
        )
        outgoing: tuple[ReplicaId, ...] = ()
        leaving: tuple[ReplicaId, ...] = ()
        if version == JOINT:
            outgoing, end = _decode_ids(payload, end)
            leaving, end = _decode_ids(payload, end)
    except struct.error as error:
        raise Corrupt("raft.configuration", "a configuration entry's length is wrong") from error
    except ValueError as error:
        raise Corrupt("raft.configuration", "a configuration entry names an unknown role") from error
    if len(members) != count or len(payload) != end or max(count, len(outgoing), len(leaving)) > MEMBERS_MAX:
        raise Corrupt("raft.configuration", "a configuration entry's length is wrong")
    known = {member.replica for member in members}
    if len(known) != count or not known >= {*outgoing} >= {*leaving}:
        raise Corrupt("raft.configuration", "a configuration entry names replicas that are no members, or one twice")
    return Configuration(members=members, outgoing=outgoing, leaving=leaving)


def _encode_ids(replicas: tuple[ReplicaId, ...]) -> bytes:
    return struct.pack(f">H{len(replicas)}Q", len(replicas), *replicas)


def _decode_ids(payload: bytes, at: int) -> tuple[tuple[ReplicaId, ...], int]:
    (count,) = _COUNT.unpack_from(payload, at)
    at += _COUNT.size
    found = struct.unpack_from(f">{count}Q", payload, at)
    return tuple(ReplicaId(replica) for replica in found), at + 8 * count
