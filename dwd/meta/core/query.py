"""The base of all queries: a query names the type of its answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

AnswerT_co = TypeVar("AnswerT_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query(Generic[AnswerT_co]):
    """A question to one group's database, answered from a single read transaction."""
