"""Real components of shipped recipes on the embedded model, and an engine that says what a test wants it to say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from rosd_kit.contracts import RolloutEngine
from rosd_kit.model.student import Student
from rosd_kit.pipeline.pipeline import Pipeline
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import build_components, load_recipe
from rosd_kit.settings import ModelSettings
from rosd_kit.text.spans import decode_with_spans
from rosd_kit.types import Completion, GenerateRequest, PolicyWeights

RECIPES = Path(__file__).parents[2] / "recipes"


class Scripted(RolloutEngine):
    """Answers each call with the texts prepared for it, in the student's own tokens; an empty text has no token at all."""

    name = "scripted"

    def __init__(self, tokenizer, *calls: Sequence[str]) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        self.calls = calls
        self.received: list[tuple[list[GenerateRequest], PolicyWeights]] = []

    def start(self, student, site=None) -> None: ...

    def sync(self, student, version) -> None: ...

    def generate(self, requests, *, weights="live"):
        texts = self.calls[len(self.received)]
        self.received.append((list(requests), weights))
        return [self._say(request, text) for request, text in zip(requests, texts, strict=True)]

    def _say(self, request, text) -> Completion:
        ids = [*self.tokenizer(text, add_special_tokens=False)["input_ids"], self.tokenizer.eos_token_id] if text else []
        text, spans = decode_with_spans(self.tokenizer, ids)
        return Completion(
            prompt_ids=request.prompt_ids,
            token_ids=tuple(ids),
            logprobs=tuple(-0.25 for _ in ids),
            text=text,
            token_spans=tuple(spans),
            finish_reason="stop",
        )


@pytest.fixture(scope="session")
def plugins() -> PluginManager:
    return PluginManager()


@pytest.fixture(scope="session")
def student() -> Student:
    return Student.load(ModelSettings(path="micro", device="cpu"), keep_initial=True)


@pytest.fixture(scope="session")
def make_pipeline(student, plugins) -> Callable[..., Pipeline]:
    """Make the pipeline of a shipped recipe, with changes; `says` replaces the engine by a scripted one."""

    def make(recipe: str = "rosd", *changes: str, says: Sequence[Sequence[str]] | None = None) -> Pipeline:
        loaded = load_recipe(str(RECIPES / f"{recipe}.yaml"), ["profile=micro", *changes], registry=plugins.registry)
        components = build_components(loaded, plugins.registry)
        if says is not None:
            components = replace(components, rollout=Scripted(student.tokenizer, *says))
        components.rollout.start(student)
        return Pipeline(
            components=components,
            engine=components.rollout,
            encode=student.prompt_ids,
            sampling=loaded.sampling,
            group_size=loaded.group_size,
            seed=loaded.seed,
        )

    return make
