"""Which checks count for which probe, and what a failing one says."""

from __future__ import annotations

import pytest

from dwd.base.errors import InvariantViolation
from dwd.observability.health import CheckResult, Health


def fine() -> str:
    return ""


def test_both_probes_pass_when_nothing_is_wrong() -> None:
    health = Health()
    health.add_live("loop", fine)
    health.add_ready("leader", fine)
    assert health.live().passed
    assert health.ready().passed
    assert [result.name for result in health.ready().results] == ["leader", "loop"]
    assert [result.name for result in health.live().results] == ["loop"]


def test_node_stays_live_when_only_readiness_fails() -> None:
    health = Health()
    health.add_live("loop", fine)
    health.add_ready("leader", lambda: "no leader of group 1 for 3 s")
    assert health.live().passed
    report = health.ready()
    assert not report.passed
    assert report.reasons == ("leader: no leader of group 1 for 3 s",)
    assert CheckResult(name="loop", reason="") in report.results


def test_node_is_not_ready_when_not_live() -> None:
    health = Health()
    health.add_live("journal", lambda: "fdatasync failed")
    assert not health.live().passed
    assert not health.ready().passed


def test_check_fails_with_its_error_when_it_raises() -> None:
    def broken() -> str:
        raise KeyError("device")

    health = Health()
    health.add_ready("devices", broken)
    assert health.ready().reasons == ("devices: the check itself failed: KeyError: 'device'",)


def test_answer_follows_the_state_when_it_changes() -> None:
    reasons = ["starting"]
    health = Health()
    health.add_ready("started", lambda: reasons[0])
    assert not health.ready().passed
    reasons[0] = ""
    assert health.ready().passed


def test_name_is_refused_when_either_probe_has_it() -> None:
    health = Health()
    health.add_live("loop", fine)
    with pytest.raises(InvariantViolation):
        health.add_ready("loop", fine)
