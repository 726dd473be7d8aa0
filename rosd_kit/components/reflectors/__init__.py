"""Reflectors: find a rollout's first error and say how to do it right."""

from rosd_kit.components.reflectors.none import NoReflector
from rosd_kit.components.reflectors.oracle import OracleReflector
from rosd_kit.components.reflectors.tutor import Tutor

COMPONENTS = (Tutor, OracleReflector, NoReflector)
