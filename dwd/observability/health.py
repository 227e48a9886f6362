"""Liveness and readiness: named checks, and what they say now.

A check is a function without arguments that returns why it fails, or "" when all is well. It must answer at once from
what is already known: probes come every few seconds and must not wait for a peer or a disk.

* live: the process can still do its work. Failing means only a restart helps.
* ready: this node should be sent requests. Failing means wait, or ask another node.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dwd.base.errors import InvariantViolation

Check = Callable[[], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    name: str
    reason: str
    """Why it fails; empty when it does not."""

    @property
    def passed(self) -> bool:
        return not self.reason


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthReport:
    """All checks of one probe, by name."""

    results: tuple[CheckResult, ...]

    @property
    def passed(self) -> bool:
        return all(result.passed for result in self.results)

    @property
    def reasons(self) -> tuple[str, ...]:
        """One "name: reason" for each failing check."""
        return tuple(f"{result.name}: {result.reason}" for result in self.results if not result.passed)


class Health:
    """The checks of one node."""

    def __init__(self) -> None:
        self._live: dict[str, Check] = {}
        self._ready: dict[str, Check] = {}

    def add_live(self, name: str, check: Check) -> None:
        """A check of both probes: what is not live is not ready. Raises InvariantViolation when the name is taken."""
        self._add(self._live, name, check)

    def add_ready(self, name: str, check: Check) -> None:
        """A check of the readiness probe. Raises InvariantViolation when the name is taken."""
        self._add(self._ready, name, check)

    def live(self) -> HealthReport:
        return _report(self._live)

    def ready(self) -> HealthReport:
        return _report(self._live | self._ready)

    def _add(self, checks: dict[str, Check], name: str, check: Check) -> None:
        if name in self._live or name in self._ready:
            raise InvariantViolation(f"two health checks are called {name}")
        checks[name] = check


def _report(checks: dict[str, Check]) -> HealthReport:
    return HealthReport(results=tuple(CheckResult(name=name, reason=_reason(checks[name])) for name in sorted(checks)))


def _reason(check: Check) -> str:
    try:
        return check()
    except Exception as error:  # noqa: BLE001 - a check that cannot answer is a failing check, whatever broke it
        return f"the check itself failed: {type(error).__name__}: {error}"
