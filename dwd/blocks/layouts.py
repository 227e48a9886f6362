"""What layouts and their workers share with those who show them: the setting that leaves layouts to operators."""

from __future__ import annotations

from dwd.meta.core.control.queries import Topology

AUTOMATIC_SETTING = "layout.automatic"
"""Control setting. Not set: layouts follow the members. "off": a new one is staged, and waits for an operator."""
_OFF = "off"


def is_automatic(topology: Topology) -> bool:
    return topology.setting(AUTOMATIC_SETTING) != _OFF
