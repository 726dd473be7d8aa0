"""Right and wrong hints, and an objective whose advantage their contrast shifts.

The demonstration shows each rollout a right sibling and several wrong ones; the objective compares the teacher's logprobs
with each of them. The first word of a view's source tells the objective its kind.
"""

from __future__ import annotations

import rosd_kit as rk

rosd_kit_api = 2


@rk.hookimpl
def rosd_kit_components() -> list[type[rk.Component]]:
    """Return the components of this package. They need torch, so they are imported here and not when a command starts."""
    from rosd_kit_rlcsd.hints import RightAndWrong
    from rosd_kit_rlcsd.objective import RLCSD

    return [RightAndWrong, RLCSD]
