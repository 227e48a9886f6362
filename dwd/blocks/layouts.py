"""What layouts and their workers share with those who show them: the setting that leaves layouts to operators."""

from __future__ import annotations

from dwd.blocks.core.layout import Layout
from dwd.blocks.core.profiles import AUTO, Profile, choose_auto, parse_profile
from dwd.meta.core.control.queries import Topology

AUTOMATIC_SETTING = "layout.automatic"
"""Control setting. Not set: layouts follow the members. "off": a new one is staged, and waits for an operator."""
_OFF = "off"


def is_automatic(topology: Topology) -> bool:
    return topology.setting(AUTOMATIC_SETTING) != _OFF


def profile_of(name: str, layout: Layout) -> Profile:
    """What a bucket's word means on a layout; none given means auto."""
    if name in {"", AUTO}:
        return choose_auto(domains=len({d.node for d in layout.devices}), devices=len(layout.devices))
    return parse_profile(name)
