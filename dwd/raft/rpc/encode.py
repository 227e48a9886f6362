"""From the core's messages to the wire's.

Hot path: a leader sends the same entries to every follower, so `Encoder` serializes a run of entries once and keeps
the last few. A run is named by its group, first index, last index and last term: while those are equal, so are the
entries (log matching).
Source: log matching property, Ongaro & Ousterhout 2014, section 5.3.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

from dwd.base.errors import InvariantViolation
from dwd.base.ids import GroupId, LogIndex, NodeId, Term
from dwd.pb.raft.v1 import raft_pb2 as pb
from dwd.raft.core import messages as m
from dwd.raft.core.types import Entry, SnapshotMeta
from dwd.raft.transport import (
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

RUNS_KEPT_MAX = 16
"""Serialized runs of entries the encoder remembers; enough for the followers of a few groups to share them."""


class Encoder:
    """Parcels to frames. One a transport. `epoch` is asked for each frame."""

    def __init__(self, node: NodeId, epoch: Callable[[], int]) -> None:
        self._node = node
        self._epoch = epoch
        self._runs: OrderedDict[tuple[GroupId, LogIndex, LogIndex, Term], bytes] = OrderedDict()

    def frame(self, target: NodeId, parcels: Iterable[tuple[GroupId, Parcel]]) -> bytes:
        frame = pb.Frame(source_node=self._node, target_node=target, epoch=self._epoch())
        add = frame.parcels.add
        for group, parcel in parcels:
            out = add()
            out.group = group
            out.source = parcel.source
            out.target = parcel.target
            if isinstance(parcel, Absent):
                out.absent.SetInParent()
                out.absent.reason = parcel.reason
                continue
            if isinstance(parcel, Beat):
                out.beat.boot, out.beat.resting = parcel.boot, parcel.resting
                out.beat.SetInParent()
                continue
            if isinstance(parcel, Pace):
                out.pace.SetInParent()
                out.pace.sync_us = parcel.sync_us
                continue
            out.term = parcel.term
            if isinstance(parcel, m.Append):
                self._append(out.append, group, parcel)
            else:
                _FILL[type(parcel)](out, parcel)
        return frame.SerializeToString()

    def _append(self, body: pb.Append, group: GroupId, message: m.Append) -> None:
        body.SetInParent()
        body.previous_index = message.previous_index
        body.previous_term = message.previous_term
        body.commit = message.commit
        if message.entries:
            body.entries = self._run(group, message.entries)

    def _run(self, group: GroupId, entries: tuple[Entry, ...]) -> bytes:
        key = (group, entries[0].index, entries[-1].index, entries[-1].term)
        known = self._runs.get(key)
        if known is not None:
            return known
        run = pb.Entries()
        add = run.entries.add
        for entry in entries:
            add(term=entry.term, kind=entry.kind, stamp=entry.stamp, payload=entry.payload)
        encoded = run.SerializeToString()
        self._runs[key] = encoded
        if len(self._runs) > RUNS_KEPT_MAX:
            self._runs.popitem(last=False)
        return encoded


def snapshot_meta(meta: SnapshotMeta) -> pb.SnapshotMeta:
    return pb.SnapshotMeta(
        index=meta.index,
        term=meta.term,
        stamp=meta.stamp,
        members=[
            pb.Member(node=member.node, replica=member.replica, role=member.role, priority=member.priority)
            for member in meta.configuration.members
        ],
        outgoing=meta.configuration.outgoing,
        leaving=meta.configuration.leaving,
    )


def snapshot_request(request: SnapshotRequest) -> pb.SnapshotRequest:
    return pb.SnapshotRequest(
        group=request.group,
        source=request.source,
        target=request.target,
        index_min=request.index_min,
        token=request.token,
        offset=request.offset,
        ranged=request.ranged,
        length=request.length,
        page_hashes=request.page_hashes,
    )


def snapshot_item(item: SnapshotItem) -> pb.SnapshotItem:
    match item:
        case SnapshotHeader():
            header = pb.SnapshotHeader(
                token=item.token, meta=snapshot_meta(item.meta), bytes_total=item.bytes_total, digest=item.digest
            )
            return pb.SnapshotItem(header=header)
        case SnapshotChunk():
            chunk = pb.SnapshotChunk(
                offset=item.offset,
                data=item.data,
                crc32c=item.crc32c,
                extent_offsets=[extent.offset for extent in item.extents],
                extent_bytes=[extent.length for extent in item.extents],
            )
            return pb.SnapshotItem(chunk=chunk)


def _vote_request(out: pb.Parcel, message: m.VoteRequest) -> None:
    body = out.vote_request
    body.SetInParent()
    body.pre = message.pre
    body.last_index = message.last_index
    body.last_term = message.last_term
    body.transfer = message.transfer


def _vote_reply(out: pb.Parcel, message: m.VoteReply) -> None:
    body = out.vote_reply
    body.SetInParent()
    body.pre = message.pre
    body.granted = message.granted
    body.doubtful = message.doubtful


def _append_reply(out: pb.Parcel, message: m.AppendReply) -> None:
    body = out.append_reply
    body.SetInParent()
    body.accepted = message.accepted
    body.match = message.match
    body.hint_index = message.hint_index
    body.hint_term = message.hint_term


def _heartbeat(out: pb.Parcel, message: m.Heartbeat) -> None:
    body = out.heartbeat
    body.SetInParent()
    body.commit = message.commit
    body.round = message.round
    body.held = message.held


def _heartbeat_reply(out: pb.Parcel, message: m.HeartbeatReply) -> None:
    body = out.heartbeat_reply
    body.SetInParent()
    body.round = message.round
    body.reluctant = message.reluctant
    body.lease = message.lease


def _read_request(out: pb.Parcel, message: m.ReadRequest) -> None:
    out.read_request.SetInParent()
    out.read_request.read = message.read
    out.read_request.doubtful = message.doubtful


def _read_reply(out: pb.Parcel, message: m.ReadReply) -> None:
    body = out.read_reply
    body.SetInParent()
    body.read = message.read
    body.index = message.index
    body.refused = message.refused


def _snapshot_offer(out: pb.Parcel, message: m.SnapshotOffer) -> None:
    out.snapshot_offer.snapshot.CopyFrom(snapshot_meta(message.snapshot))


def _timeout_now(out: pb.Parcel, message: m.TimeoutNow) -> None:
    del message
    out.timeout_now.SetInParent()


def _nap(out: pb.Parcel, parcel: Nap) -> None:
    out.nap.SetInParent()
    out.nap.index = parcel.index


def _nap_reply(out: pb.Parcel, parcel: NapReply) -> None:
    out.nap_reply.SetInParent()
    out.nap_reply.index = parcel.index
    out.nap_reply.agreed = parcel.agreed


_FILL: dict[type, Callable[[pb.Parcel, Any], None]] = {
    m.VoteRequest: _vote_request,
    m.VoteReply: _vote_reply,
    m.AppendReply: _append_reply,
    m.Heartbeat: _heartbeat,
    m.HeartbeatReply: _heartbeat_reply,
    m.ReadRequest: _read_request,
    m.ReadReply: _read_reply,
    m.SnapshotOffer: _snapshot_offer,
    m.TimeoutNow: _timeout_now,
    Nap: _nap,
    NapReply: _nap_reply,
}

if {*_FILL, m.Append, Absent, Beat, Pace} != set(Parcel.__args__):
    raise InvariantViolation("a message has no form on the wire")
