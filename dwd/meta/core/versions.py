"""Versions of a group's commands: which of them this binary carries out, and what a database needs for the next one.

Every group stores its active version, and a command of its own log (`SetVersion`) raises it by one. What a command
does, and how the tables look, follows from the active version alone, never from the binary: so daemons of different
age apply the same log to the same rows. A group begins at OLDEST whoever creates it: `schema/*.sql` makes its tables.

Hazard: an upgrade may depend on the rows of its transaction alone, and stays as it is once it was released.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from dwd.base.errors import InvariantViolation
from dwd.meta.core.tx import Tx

OLDEST = 1
"""What new groups begin at. It rises only in a release that no longer opens older groups."""
NEWEST = 1

Upgrade = Callable[[Tx], None]
"""Makes a database of version n - 1 one of version n, inside the transaction of the command that asks for it."""

UPGRADES: Mapping[int, Upgrade] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """What a binary knows. Raises InvariantViolation unless there is an upgrade to each version above the oldest."""

    oldest: int = OLDEST
    newest: int = NEWEST
    upgrades: Mapping[int, Upgrade] = field(default_factory=lambda: UPGRADES)

    def __post_init__(self) -> None:
        if not 1 <= self.oldest <= self.newest or set(self.upgrades) != set(range(self.oldest + 1, self.newest + 1)):
            raise InvariantViolation(f"no upgrades from version {self.oldest} to {self.newest}: {set(self.upgrades)}")


KNOWN = Versions()
"""Checked when this is imported."""
