"""Rollout engines."""

from rosd_kit.components.rollouts.reference import ReferenceEngine
from rosd_kit.components.rollouts.transformers import TransformersEngine

COMPONENTS = (TransformersEngine, ReferenceEngine)
