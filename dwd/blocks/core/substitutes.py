"""Where a fragment goes when its own device cannot take it.

Rule: a write that had to leave its place must still survive the loss of any one further failure domain. The domain is
the node; where the cluster is so small that not even the layout's own places survive a node, it is the device.

Invariants: `survives` is judged over all fragments of the block as they will lie; devices that already hold one are
taken last, nodes with the fewest fragments first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from dwd.base.ids import DeviceId, NodeId


def one_more_loss(places: Sequence[DeviceId], intended: Sequence[DeviceId], nodes: Mapping[DeviceId, NodeId],
                  parity: int) -> bool:  # fmt: skip
    """Whether the block as placed survives one more node; one more device where the layout itself survives no node.

    With fewer devices than that takes nothing is stored: what cannot survive must not be acknowledged.
    """
    if parity == 0:
        return True
    if one_node(intended, nodes) <= parity:
        return one_node(places, nodes) <= parity
    return _fullest(places) <= parity


def substitute(
    index: int,
    places: Sequence[DeviceId],
    order: Iterable[DeviceId],
    nodes: Mapping[DeviceId, NodeId],
    usable: Callable[[DeviceId], bool],
    *,
    avoid: frozenset[DeviceId] = frozenset(),
) -> DeviceId | None:
    """The best other device for fragment `index` of a block at `places`, in the layout's order of preference."""
    others = [device for i, device in enumerate(places) if i != index]
    per_device, per_node = Counter(others), Counter(nodes.get(device, NodeId(0)) for device in others)
    best: tuple[int, int, int] | None = None
    found: DeviceId | None = None
    for rank, device in enumerate(order):
        if device in avoid or device not in nodes or not usable(device):
            continue
        score = (per_node[nodes[device]], per_device[device], rank)
        if best is None or score < best:
            best, found = score, device
    return found


def one_node(places: Iterable[DeviceId], nodes: Mapping[DeviceId, NodeId]) -> int:
    """The most fragments of a block at `places` that go with one node."""
    return _fullest(nodes.get(device, NodeId(0)) for device in places)


def _fullest(domains: Iterable[int]) -> int:
    return max(Counter(domains).values(), default=0)
