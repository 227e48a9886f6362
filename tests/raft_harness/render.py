"""Messages and effects as one line of text each."""

from __future__ import annotations

from typing import assert_never

from dwd.raft.core.configuration_codec import decode_configuration
from dwd.raft.core.effects import Effects
from dwd.raft.core.messages import (
    Append,
    AppendReply,
    Heartbeat,
    HeartbeatReply,
    Message,
    ReadReply,
    ReadRequest,
    SnapshotOffer,
    TimeoutNow,
    VoteReply,
    VoteRequest,
)
from dwd.raft.core.types import Configuration, Entry, EntryKind, MemberRole


def entry(item: Entry) -> str:
    match item.kind:
        case EntryKind.NOOP:
            text = "noop"
        case EntryKind.COMMAND:
            text = item.payload.decode()
        case EntryKind.CONFIGURATION:
            text = configuration(decode_configuration(item.payload))
        case _:
            assert_never(item.kind)
    return f"{item.index}@{item.term}:{text}"


def entries(items: tuple[Entry, ...]) -> str:
    return "[" + " ".join(entry(item) for item in items) + "]"


def configuration(value: Configuration) -> str:
    parts = {
        "voters": [m.replica for m in value.voters() if m.role is MemberRole.VOTER],
        "witnesses": [m.replica for m in value.voters() if m.role is MemberRole.WITNESS],
        "learners": [m.replica for m in value.members if m.role is MemberRole.LEARNER],
        "outgoing": value.outgoing,
    }
    shown = [(name, ids) for name, ids in parts.items() if ids or name == "voters"]
    return "".join(f"{name}({','.join(map(str, ids))})" for name, ids in shown)


def message(item: Message) -> str:
    head = f"{item.source}->{item.target} {type(item).__name__} t{item.term}"
    match item:
        case VoteRequest():
            body = f"{'pre ' if item.pre else ''}last={item.last_index}@{item.last_term}"
            body += " transfer" if item.transfer else ""
        case VoteReply():
            body = f"{'pre ' if item.pre else ''}{'granted' if item.granted else 'refused'}"
            body += " doubtful" if item.doubtful else ""
        case Append():
            body = f"after={item.previous_index}@{item.previous_term} {entries(item.entries)} commit={item.commit}"
        case AppendReply():
            body = f"match={item.match}" if item.accepted else f"refused hint={item.hint_index}@{item.hint_term}"
        case Heartbeat():
            body = f"commit={item.commit} round={item.round}" + (f" held={item.held}" if item.held else "")
        case HeartbeatReply():
            body = f"round={item.round}" + (" reluctant" if item.reluctant else "")
        case ReadRequest():
            body = "doubtful" if item.doubtful else f"read={item.read}"
        case ReadReply():
            body = f"index={item.index}" + (" refused" if item.refused else "")
        case SnapshotOffer():
            body = f"snapshot={item.snapshot.index}@{item.snapshot.term}"
        case TimeoutNow():
            return head
        case _:
            assert_never(item)
    return f"{head} {body}"


def effects(replica: int, value: Effects) -> list[str]:
    """In the order of the duties; empty ones are left out."""
    lines: list[str] = []
    if value.soft_state is not None:
        soft = value.soft_state
        lines.append(f"role {soft.role.name.lower()} term={soft.term} leader={soft.leader}")
    if value.snapshot is not None:
        lines.append(f"install snapshot {value.snapshot.index}@{value.snapshot.term}")
    if value.entries:
        lines.append(f"write {entries(value.entries)}")
    if value.hard_state is not None:
        lines.append(f"write term={value.hard_state.term} vote={value.hard_state.vote}")
    lines += [f"now     {message(item)}" for item in value.messages_now]
    lines += [f"durable {message(item)}" for item in value.messages_durable]
    if value.committed:
        lines.append(f"apply {entries(value.committed)}")
    lines += [f"accepted {item.proposal} at {item.index}@{item.term}" for item in value.accepted]
    lines += [f"refused {item.proposal}: {item.error.code}" for item in value.refused]
    lines += [f"read {item.read} ready at {item.index}" for item in value.reads]
    lines += [f"read {item.read} refused: {item.error.code}" for item in value.reads_refused]
    lines += [f"fetch [{item.first},{item.last}] for {item.target}" for item in value.fetches]
    if value.offer is not None:
        lines.append(f"get snapshot {value.offer.snapshot.index} from {value.offer.source}")
    if value.tail_confirmed:
        lines.append("tail confirmed")
    lines += [f"dropped {item.count} of {item.source}: {item.refusal}" for item in value.dropped]
    return [f"{replica} {line}" for line in lines]
