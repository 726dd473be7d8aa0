"""Right and wrong hints, and the advantage that their contrast moves.

The demonstration gives each rollout a right sibling and several wrong ones; the objective compares what the teacher makes of
them. The two know each other by the first word of a view's source.
"""

from __future__ import annotations

import rosd_kit as rk
from rosd_kit_rlcsd.hints import RightAndWrong
from rosd_kit_rlcsd.objective import RLCSD

rosd_kit_api = 2


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    """Return what this package adds."""
    return [RightAndWrong, RLCSD]
