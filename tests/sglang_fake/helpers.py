"""Requests, the completions that the student itself gives them, and a stand-in for a training step."""

from __future__ import annotations

import torch

from rosd_kit.components.rollouts import TransformersEngine
from rosd_kit.components.tasks import Micro
from rosd_kit.model.student import Student
from rosd_kit.types import Completion, GenerateRequest, Sampling


def requests_for(student: Student, count: int, *, temperature: float = 1.0, max_new_tokens: int = 6) -> list[GenerateRequest]:
    """Return requests that differ in prompt or seed."""
    problems = Micro().train_batch(step=0, count=min(count, 8), seed=0)
    prompts = [student.prompt_ids(problem.messages) for problem in problems]
    sampling = Sampling(temperature=temperature, max_new_tokens=max_new_tokens)
    return [GenerateRequest(prompt_ids=prompts[i % len(prompts)], sampling=sampling, seed=i) for i in range(count)]


def expected(student: Student, requests: list[GenerateRequest], **options) -> list[tuple[int, ...]]:
    """Return the ids that the student itself samples; a fake server uses the same random numbers."""
    engine = TransformersEngine()
    engine.start(student)
    return ids(engine.generate(requests, **options))


def ids(completions: list[Completion]) -> list[tuple[int, ...]]:
    return [completion.token_ids for completion in completions]


def train(student: Student, amount: float = 0.8) -> None:
    """Change the weights so much that the model samples other tokens."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in student.state().values():
            weight.add_(torch.randn(weight.shape, generator=generator) * amount * weight.abs().mean())
