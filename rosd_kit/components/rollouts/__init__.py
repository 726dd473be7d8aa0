"""Rollout engines, which sample completions. Each file is one engine; `caching` and `token_sampler` serve `transformers`."""

from rosd_kit.components.rollouts.reference import ReferenceEngine
from rosd_kit.components.rollouts.sglang import SGLangEngine
from rosd_kit.components.rollouts.transformers import TransformersEngine

COMPONENTS = (TransformersEngine, SGLangEngine, ReferenceEngine)
