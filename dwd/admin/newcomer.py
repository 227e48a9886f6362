"""What a joining node says of itself; met on both sides of a join."""

from __future__ import annotations

from dataclasses import dataclass

from dwd.base.ids import NodeId
from dwd.meta.core.control.rows import Domain, NodeAddresses


@dataclass(frozen=True, slots=True, kw_only=True)
class Newcomer:
    """`request` is a PEM certificate request, `sealing_key` the public half of the key its boxes are sealed to."""

    node: NodeId
    name: str
    request: bytes
    sealing_key: bytes
    addresses: NodeAddresses
    domain: Domain
