"""The components of this slot, once: read by type checkers and by `__init__.py`."""

from rosd_kit.components.verifiers.by_suite import BySuite as BySuite
from rosd_kit.components.verifiers.code import Code as Code
from rosd_kit.components.verifiers.exact import Exact as Exact
from rosd_kit.components.verifiers.majority import Majority as Majority
from rosd_kit.components.verifiers.math import Math as Math
from rosd_kit.components.verifiers.mcq import MultipleChoice as MultipleChoice
from rosd_kit.components.verifiers.micro import MicroVerifier as MicroVerifier
from rosd_kit.components.verifiers.micro_reasoning import MicroReasoningVerifier as MicroReasoningVerifier
from rosd_kit.components.verifiers.reasoning_gym import GymVerifier as GymVerifier
from rosd_kit.components.verifiers.tool_use import ToolUse as ToolUse
from rosd_kit.contracts import Verifier

COMPONENTS: tuple[type[Verifier], ...]
