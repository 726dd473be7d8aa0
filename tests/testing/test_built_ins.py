"""Every built-in component keeps the laws of the conformance kit."""

from __future__ import annotations

from pathlib import Path

import pytest

from rosd_kit.components.tasks.dataset import Dataset
from rosd_kit.components.tasks.reasoning_gym import Kind, ReasoningGym
from rosd_kit.components.verifiers.by_suite import BySuite
from rosd_kit.components.verifiers.math import Math
from rosd_kit.contracts import SLOTS
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.testing import Bench, checks_of, fake_problem
from rosd_kit.testing.build import build

REGISTRY = PluginManager(selection="builtin").registry
ROWS = Path(__file__).parent / "rows.jsonl"
CONFIGS = {
    "by_suite": BySuite.Config(default="exact"),
    "math": Math.Config(workers=1, deadline=20.0),
    "dataset": Dataset.Config(path=str(ROWS), prompt="{question}", answer="{answer}", solution="{worked}", held_out=0.25),
    "reasoning_gym": ReasoningGym.Config(train=[Kind(kind="chain_sum")]),
}
CALLS = '[{"Action": "search", "Action_Input": "{\\"query\\": \\"rain\\"}"}]'


def bench_of(kind: str, name: str) -> Bench:
    """Return the bench of a component: verifiers for one kind of problem need such a problem."""
    if (kind, name) == ("verifier", "reasoning_gym"):
        return Bench(problem=ReasoningGym(CONFIGS["reasoning_gym"]).train_batch(step=0, count=1, seed=0)[0])
    answers = {"tool_use": CALLS, "code": '{"inputs": ["1"], "outputs": ["2"]}'}
    return Bench(problem=fake_problem(answer=answers[name])) if name in answers else Bench()


def components_and_laws():
    for kind in SLOTS:
        for name in REGISTRY.names(kind):
            for check in checks_of(kind):
                marks = [pytest.mark.slow] if name == "math" else []  # every law starts new processes
                yield pytest.param(kind, name, check, id=f"{kind}-{name}-{check.name}", marks=marks)


@pytest.mark.parametrize(("kind", "name", "check"), list(components_and_laws()))
def test_a_built_in_keeps_the_laws(kind, name, check):
    if name == "sglang" and check.kind == "rollout":
        pytest.skip("needs a server: tests/sglang")
    if name == "math":
        pytest.importorskip("math_verify", reason="math-verify is not installed")
    if name == "reasoning_gym":
        pytest.importorskip("reasoning_gym", reason="reasoning-gym is not installed")
    cls = REGISTRY.get(kind, name)
    config = CONFIGS.get(name)
    options = config.model_dump() if isinstance(config, cls.Config) else {}
    check(build(cls, options, REGISTRY), bench_of(kind, name))
