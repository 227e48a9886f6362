"""Nodes speak to each other when their versions overlap, and are refused when they do not."""

from __future__ import annotations

import pytest

from dwd.base.errors import InvalidArgument, VersionRefused
from dwd.rpc.wire_versions import UNSTATED, WireVersions, stated

NEW = WireVersions(least=2, most=3)


@pytest.mark.parametrize("other", [WireVersions(least=1, most=2), WireVersions(least=3, most=9), NEW])
def test_caller_is_accepted_when_the_ranges_overlap(other: WireVersions) -> None:
    NEW.require_common(stated([("lane", "urgent"), other.metadata()]))


@pytest.mark.parametrize("other", [WireVersions(least=1, most=1), WireVersions(least=4, most=5)])
def test_refusal_names_both_ranges_when_they_are_disjoint(other: WireVersions) -> None:
    with pytest.raises(VersionRefused) as caught:
        NEW.require_common(stated([other.metadata()]))
    assert str(other) in caught.value.message
    assert str(NEW) in caught.value.message


def test_caller_is_of_the_first_version_when_it_states_none() -> None:
    assert stated([("lane", "urgent")]) == UNSTATED == WireVersions(least=1, most=1)


@pytest.mark.parametrize("value", ["", "1", "2-1", "0-1", "1-x", "1-2-3", "1-9999999999", b"1-1"])
def test_statement_is_refused_when_it_is_no_range(value: str | bytes) -> None:
    with pytest.raises(InvalidArgument):
        stated([("dwd-wire", value)])
