"""The object API over real metadata keeps the same contract as its twin in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dwd.meta.core.control.commands import CreateUser
from dwd.objects.ports import Objects
from tests.contract.objects_contract import ObjectsContract
from tests.twins.meta_nodes import soon
from tests.twins.object_node import object_node


class TestObjectService(ObjectsContract):
    @pytest.fixture
    async def objects(self, tmp_path: Path) -> AsyncIterator[Objects]:
        async with object_node(tmp_path) as node:
            for name in ("alice", "bob"):
                await node.meta.control(CreateUser(name=name), deadline=soon())
            yield node.service
