"""What layouts and their workers share with those who show them: the setting that leaves layouts to operators, and
which prefixes of the lists hold data.
"""

from __future__ import annotations

from dwd.base.policy import Policy
from dwd.blocks.core.layout import Layout
from dwd.blocks.policies import choice_on
from dwd.meta.core.control.queries import Topology
from dwd.meta.view import ControlView

AUTOMATIC_SETTING = "layout.automatic"
"""Control setting. Not set: layouts follow the members. "off": a new one is staged, and waits for an operator."""
DEFAULT_PROFILE_SETTING = "blocks.default_profile"
"""Control setting: the profile of buckets that name none."""
_OFF = "off"


def is_automatic(topology: Topology) -> bool:
    return topology.setting(AUTOMATIC_SETTING) != _OFF


def widths_in_use(view: ControlView, layout: Layout | None) -> tuple[int, ...]:
    """Fragments of the profiles of all buckets and of new ones: the prefixes whose shares layouts hold. The copies of
    small blocks lie where the first of them do; they are few bytes, and holding their shares too moves the many.
    """
    if layout is None:
        return ()
    topology = view.topology()
    policies = {row.policy for row in view.buckets()} | {Policy(profile=topology.setting(DEFAULT_PROFILE_SETTING))}
    return tuple(sorted({choice_on(policy, layout, topology).profile.fragments for policy in policies}))
