"""Verifiers: is the response right?"""

from rosd_kit.components.verifiers.exact import Exact
from rosd_kit.components.verifiers.micro import MicroVerifier

COMPONENTS = (Exact, MicroVerifier)
