"""Changing more than one voter at once: through a configuration that is the old and the new one together.

While it is in force neither can decide without the other, so there is no moment at which two majorities could. The
leader enters it with one entry and, once that is committed, leaves it with another by itself; whoever leads by then
does. Learners take part in no decision: they come and go at once.

Source: Ongaro & Ousterhout 2014, section 6 and figure 11; Ongaro's thesis 4.3. That a single voter needs no joint
configuration: thesis 4.1.
"""

from __future__ import annotations

from dataclasses import replace

from dwd.base.ids import ReplicaId
from dwd.raft.core.types import Configuration


def between(old: Configuration, new: Configuration) -> Configuration:
    """What to put into the log to get from `old` to `new`: `new` itself if they differ in one voter at most."""
    before, after = _voters(old), _voters(new)
    if len(before ^ after) <= 1:
        return new
    staying = {member.replica for member in new.members}
    gone = [member for member in old.members if member.replica in before and member.replica not in staying]
    return Configuration(
        members=tuple(sorted((*new.members, *gone), key=lambda m: m.replica)),
        outgoing=tuple(sorted(before)),
        leaving=tuple(sorted(member.replica for member in gone)),
    )


def left(joint: Configuration) -> Configuration:
    """The new configuration alone."""
    members = tuple(m for m in joint.members if m.replica not in joint.leaving)
    return replace(joint, members=members, outgoing=(), leaving=())


def _voters(configuration: Configuration) -> set[ReplicaId]:
    return {member.replica for member in configuration.voters()}
