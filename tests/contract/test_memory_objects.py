"""The object API in memory keeps the contract of the real one."""

from __future__ import annotations

import pytest

from dwd.objects.ports import Objects
from dwd.runtime.clock import SystemClock
from tests.contract.objects_contract import ObjectsContract
from tests.twins.memory_objects import MemoryObjects


class TestMemoryObjects(ObjectsContract):
    @pytest.fixture
    def objects(self) -> Objects:
        return MemoryObjects(SystemClock())
