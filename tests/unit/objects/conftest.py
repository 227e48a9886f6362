"""The real object service over a shelf of blocks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.twins.meta_nodes import soon
from tests.twins.object_node import ObjectNode, object_node
from tests.unit.objects.bodies import ADMIN


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[ObjectNode]:
    async with object_node(tmp_path) as found:
        await found.service.create_bucket(ADMIN, "bkt", deadline=soon())
        yield found
