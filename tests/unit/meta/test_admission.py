"""What may go into a group's log, and what is refused while it still can be."""

from __future__ import annotations

from typing import Any

import pytest

from dwd.base.errors import InvalidArgument
from dwd.base.ids import CONTROL_GROUP, GroupId, ShardEpoch
from dwd.meta.admission import check_proposal
from dwd.meta.codec import decode_envelope, encode_envelope
from dwd.meta.core.apply import Envelope
from dwd.meta.core.control.commands import SetShardMap
from dwd.meta.core.control.rows import ShardRange
from dwd.meta.core.shard.commands import Precondition, PutObject
from dwd.meta.core.tx import INTEGER_MAX

SHARD = GroupId(int(CONTROL_GROUP) + 1)


def _put(**changes: Any) -> PutObject:
    return PutObject(
        **{"bucket": "b", "key": "k", "bucket_epoch": 1, "size": 1, "etag": "e", "inline": b"x", **changes}
    )


def _encoded(command: Any, *, session: int = 1) -> bytes:
    return encode_envelope(Envelope(session=session, sequence=2, lowest=1, version=1, command=command))


def test_a_proposal_is_accepted_when_a_database_holds_its_numbers() -> None:
    check_proposal(SHARD, _encoded(_put(size=INTEGER_MAX)))


@pytest.mark.parametrize(
    ("group", "encoded"),
    [
        (CONTROL_GROUP, _encoded(SetShardMap(epoch=ShardEpoch(INTEGER_MAX + 1), ranges=()))),
        (SHARD, _encoded(_put(), session=INTEGER_MAX + 1)),
        (
            CONTROL_GROUP,
            _encoded(SetShardMap(epoch=ShardEpoch(1), ranges=(ShardRange(start=b"", group=GroupId(INTEGER_MAX + 1)),))),
        ),
    ],
)
def test_a_proposal_is_refused_when_no_database_holds_a_number_in_it(group: GroupId, encoded: bytes) -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_proposal(group, encoded)
    assert refused.value.code == "meta.command_malformed"


def test_a_proposal_is_refused_when_it_is_for_the_other_kind_of_group() -> None:
    with pytest.raises(InvalidArgument) as refused:
        check_proposal(CONTROL_GROUP, _encoded(_put()))
    assert refused.value.code == "meta.wrong_group"


@pytest.mark.parametrize(
    "precondition", [Precondition(), Precondition(if_match=("a",)), Precondition(if_none_match=("*",))]
)
def test_a_nested_value_comes_back_as_it_was_when_it_is_empty_or_not(precondition: Precondition) -> None:
    put = _put(precondition=precondition)
    assert decode_envelope(_encoded(put)).command == put
