"""Gates: filter rollouts before reflection and scoring."""

from rosd_kit.components.gates.all import AllRollouts
from rosd_kit.components.gates.mixed_groups import MixedGroups
from rosd_kit.components.gates.mixed_rewards import MixedRewards

COMPONENTS = (AllRollouts, MixedGroups, MixedRewards)
