from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from dwd.base.ids import ClusterId, NodeId
from dwd.security.authority import Authority, create_authority
from dwd.security.credentials import Credential, request_certificate
from dwd.security.identity import Identity
from dwd.security.sealing import new_sealing_key

CLUSTER = ClusterId("c1" * 16)
NOW_MS = 1_800_000_000_000
DAY_MS = 86_400_000


@dataclass
class FakeClock:
    now_ms: int = NOW_MS

    def monotonic(self) -> float:
        return self.now_ms / 1000

    def unix_ms(self) -> int:
        return self.now_ms


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def authority(clock: FakeClock) -> Authority:
    return create_authority(CLUSTER, clock=clock)


@pytest.fixture
def new_identity(authority: Authority, clock: FakeClock) -> Callable[[int], Identity]:
    def make(node_id: int) -> Identity:
        request = request_certificate()
        credential = Credential(
            cluster_id=CLUSTER,
            authority=authority.certificate,
            certificate=authority.sign_node(request.request, NodeId(node_id), clock=clock),
            key=request.key,
        )
        return Identity(
            node_id=NodeId(node_id), node_name=f"n{node_id}", credential=credential, sealing=new_sealing_key()
        )

    return make
