"""From the wire's messages to the core's. Bytes that make no sense raise Corrupt: the stream they came on is ended."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from dwd.base.errors import Corrupt
from dwd.base.ids import GroupId, LogIndex, NodeId, ReplicaId, Stamp, Term
from dwd.pb.raft.v1 import raft_pb2 as pb
from dwd.raft.core import messages as m
from dwd.raft.core.types import Configuration, Entry, EntryKind, Member, MemberRole, ReadId, SnapshotMeta
from dwd.raft.snapshots.pages import Extent
from dwd.raft.transport import (
    Absence,
    Absent,
    Beat,
    Nap,
    NapReply,
    Pace,
    Parcel,
    SnapshotChunk,
    SnapshotHeader,
    SnapshotItem,
    SnapshotRequest,
)

_KINDS = {int(kind): kind for kind in EntryKind}


def frame(encoded: bytes) -> tuple[NodeId, NodeId, int, dict[GroupId, list[Parcel]]]:
    """Source node, target node, recovery epoch, parcels by group in order. Raises Corrupt."""
    try:
        decoded = pb.Frame.FromString(encoded)
        parcels: dict[GroupId, list[Parcel]] = {}
        for parcel in decoded.parcels:
            parcels.setdefault(GroupId(parcel.group), []).append(_parcel(parcel))
    except (DecodeError, KeyError, ValueError) as error:
        raise Corrupt("raft.frame_malformed", f"a frame cannot be read: {error!r}") from error
    return NodeId(decoded.source_node), NodeId(decoded.target_node), decoded.epoch, parcels


def snapshot_meta(meta: pb.SnapshotMeta) -> SnapshotMeta:
    """Raises ValueError for a member role nobody knows."""
    members = tuple(
        Member(
            node=NodeId(member.node),
            replica=ReplicaId(member.replica),
            role=MemberRole(member.role),
            priority=member.priority,
        )
        for member in meta.members
    )
    return SnapshotMeta(
        index=LogIndex(meta.index),
        term=Term(meta.term),
        stamp=Stamp(meta.stamp),
        configuration=Configuration(
            members=members,
            outgoing=tuple(ReplicaId(replica) for replica in meta.outgoing),
            leaving=tuple(ReplicaId(replica) for replica in meta.leaving),
        ),
    )


def snapshot_request(request: pb.SnapshotRequest) -> SnapshotRequest:
    return SnapshotRequest(
        group=GroupId(request.group),
        source=ReplicaId(request.source),
        target=ReplicaId(request.target),
        index_min=LogIndex(request.index_min),
        token=request.token,
        offset=request.offset,
        ranged=request.ranged,
        length=request.length,
        page_hashes=request.page_hashes,
    )


def snapshot_item(item: pb.SnapshotItem) -> SnapshotItem:
    """Raises Corrupt. The chunk's checksum is for the receiver to check."""
    try:
        match item.WhichOneof("item"):
            case "header":
                header = item.header
                return SnapshotHeader(
                    token=header.token,
                    meta=snapshot_meta(header.meta),
                    bytes_total=header.bytes_total,
                    digest=header.digest,
                )
            case "chunk":
                chunk = item.chunk
                cut = zip(chunk.extent_offsets, chunk.extent_bytes, strict=True)
                extents = tuple(Extent(offset=offset, length=length) for offset, length in cut)
                return SnapshotChunk(offset=chunk.offset, data=chunk.data, crc32c=chunk.crc32c, extents=extents)
            case _:
                raise Corrupt("raft.snapshot_malformed", "an item of a snapshot transfer is neither header nor chunk")
    except ValueError as error:
        raise Corrupt("raft.snapshot_malformed", f"an item of a snapshot cannot be read: {error}") from error


def _parcel(parcel: pb.Parcel) -> Parcel:
    body = parcel.WhichOneof("body")
    if body is None:
        raise Corrupt("raft.frame_malformed", "a parcel without a message")
    return _READ[body](ReplicaId(parcel.source), ReplicaId(parcel.target), Term(parcel.term), getattr(parcel, body))


def _append(source: ReplicaId, target: ReplicaId, term: Term, body: pb.Append) -> m.Append:
    index = body.previous_index
    entries: tuple[Entry, ...] = ()
    if body.entries:
        kinds = _KINDS
        entries = tuple(
            Entry(
                index=LogIndex(at),
                term=Term(entry.term),
                kind=kinds[entry.kind],
                stamp=Stamp(entry.stamp),
                payload=entry.payload,
            )
            for at, entry in enumerate(pb.Entries.FromString(body.entries).entries, index + 1)
        )
    return m.Append(
        source=source,
        target=target,
        term=term,
        previous_index=LogIndex(index),
        previous_term=Term(body.previous_term),
        entries=entries,
        commit=LogIndex(body.commit),
    )


def _append_reply(source: ReplicaId, target: ReplicaId, term: Term, body: pb.AppendReply) -> m.AppendReply:
    return m.AppendReply(
        source=source,
        target=target,
        term=term,
        accepted=body.accepted,
        match=LogIndex(body.match),
        hint_index=LogIndex(body.hint_index),
        hint_term=Term(body.hint_term),
    )


def _heartbeat(source: ReplicaId, target: ReplicaId, term: Term, body: pb.Heartbeat) -> m.Heartbeat:
    return m.Heartbeat(
        source=source,
        target=target,
        term=term,
        commit=LogIndex(body.commit),
        round=body.round,
        held=LogIndex(body.held),
    )


def _heartbeat_reply(source: ReplicaId, target: ReplicaId, term: Term, body: pb.HeartbeatReply) -> m.HeartbeatReply:
    return m.HeartbeatReply(
        source=source, target=target, term=term, round=body.round, reluctant=body.reluctant, lease=body.lease
    )


def _vote_request(source: ReplicaId, target: ReplicaId, term: Term, body: pb.VoteRequest) -> m.VoteRequest:
    return m.VoteRequest(
        source=source,
        target=target,
        term=term,
        pre=body.pre,
        last_index=LogIndex(body.last_index),
        last_term=Term(body.last_term),
        transfer=body.transfer,
    )


def _vote_reply(source: ReplicaId, target: ReplicaId, term: Term, body: pb.VoteReply) -> m.VoteReply:
    return m.VoteReply(
        source=source, target=target, term=term, pre=body.pre, granted=body.granted, doubtful=body.doubtful
    )


def _read_request(source: ReplicaId, target: ReplicaId, term: Term, body: pb.ReadRequest) -> m.ReadRequest:
    return m.ReadRequest(source=source, target=target, term=term, read=ReadId(body.read), doubtful=body.doubtful)


def _read_reply(source: ReplicaId, target: ReplicaId, term: Term, body: pb.ReadReply) -> m.ReadReply:
    return m.ReadReply(
        source=source,
        target=target,
        term=term,
        read=ReadId(body.read),
        index=LogIndex(body.index),
        refused=body.refused,
    )


def _snapshot_offer(source: ReplicaId, target: ReplicaId, term: Term, body: pb.SnapshotOffer) -> m.SnapshotOffer:
    return m.SnapshotOffer(source=source, target=target, term=term, snapshot=snapshot_meta(body.snapshot))


def _timeout_now(source: ReplicaId, target: ReplicaId, term: Term, _: pb.TimeoutNow) -> m.TimeoutNow:
    return m.TimeoutNow(source=source, target=target, term=term)


def _absent(source: ReplicaId, target: ReplicaId, _: Term, body: pb.Absent) -> Absent:
    return Absent(source=source, target=target, reason=Absence(body.reason))


def _nap(source: ReplicaId, target: ReplicaId, term: Term, body: pb.Nap) -> Nap:
    return Nap(source=source, target=target, term=term, index=LogIndex(body.index))


def _nap_reply(source: ReplicaId, target: ReplicaId, term: Term, body: pb.NapReply) -> NapReply:
    return NapReply(source=source, target=target, term=term, index=LogIndex(body.index), agreed=body.agreed)


def _beat(source: ReplicaId, target: ReplicaId, _: Term, body: pb.Beat) -> Beat:
    return Beat(source=source, target=target, boot=body.boot, resting=body.resting)


def _pace(source: ReplicaId, target: ReplicaId, _: Term, body: pb.Pace) -> Pace:
    return Pace(source=source, target=target, sync_us=body.sync_us)


_READ: dict[str, Callable[[ReplicaId, ReplicaId, Term, Any], Parcel]] = {
    "append": _append,
    "append_reply": _append_reply,
    "heartbeat": _heartbeat,
    "heartbeat_reply": _heartbeat_reply,
    "vote_request": _vote_request,
    "vote_reply": _vote_reply,
    "read_request": _read_request,
    "read_reply": _read_reply,
    "snapshot_offer": _snapshot_offer,
    "timeout_now": _timeout_now,
    "absent": _absent,
    "nap": _nap,
    "nap_reply": _nap_reply,
    "beat": _beat,
    "pace": _pace,
}
