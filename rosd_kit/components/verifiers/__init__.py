"""Verifiers: judge whether a response is right."""

from rosd_kit.components.verifiers.by_suite import BySuite
from rosd_kit.components.verifiers.code import Code
from rosd_kit.components.verifiers.exact import Exact
from rosd_kit.components.verifiers.majority import Majority
from rosd_kit.components.verifiers.math import Math
from rosd_kit.components.verifiers.mcq import MultipleChoice
from rosd_kit.components.verifiers.micro import MicroVerifier
from rosd_kit.components.verifiers.reasoning_gym import GymVerifier
from rosd_kit.components.verifiers.tool_use import ToolUse

COMPONENTS = (Exact, Math, MultipleChoice, ToolUse, Code, Majority, BySuite, GymVerifier, MicroVerifier)
