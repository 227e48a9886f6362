"""Which state machines have their files open: a bounded number, the least recently used closed first.

A database that nobody touches costs a page cache and file handles, a few hundred KiB a group. Closing and opening are
work on the machine's lane like any other, so a machine that is used again meanwhile simply opens anew.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol


class Restful(Protocol):
    def rest(self) -> None:
        """Close the files after what is under way. Does not wait."""
        ...


class OpenMachines:
    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: OrderedDict[int, Restful] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def used(self, machine: Restful) -> None:
        """It is open from now on; the one that was not used for longest may have to close."""
        self._open[id(machine)] = machine
        self._open.move_to_end(id(machine))
        while len(self._open) > self._limit:
            _, oldest = self._open.popitem(last=False)
            oldest.rest()

    def closed(self, machine: Restful) -> None:
        self._open.pop(id(machine), None)
