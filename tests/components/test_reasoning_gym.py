"""Problems from reasoning-gym: seeded, scored, and refused with a hint if they do not exist."""

from __future__ import annotations

import pytest

from rosd_kit.errors import RecipeError, RunError
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import load_recipe

reasoning_gym = pytest.importorskip("reasoning_gym")

from reasoning_gym.factory import DATASETS  # noqa: E402

from rosd_kit.components.tasks import ReasoningGym  # noqa: E402
from rosd_kit.components.verifiers import GymVerifier  # noqa: E402

KINDS = set(DATASETS)


def task(*kinds: dict, **options) -> ReasoningGym:
    return ReasoningGym(ReasoningGym.Config(train=list(kinds) or [{"kind": "chain_sum"}], **options))


def test_problems_are_new_at_every_step_and_fixed_by_the_seed():
    gym = task({"kind": "chain_sum"}, {"kind": "leg_counting"})
    first, second = (gym.train_batch(step=step, count=4, seed=0) for step in (0, 1))
    assert [p.suite for p in first] == ["chain_sum", "leg_counting"] * 2
    assert len({p.messages[-1]["content"] for p in first + second}) == 8 and len({p.id for p in first + second}) == 8
    assert gym.train_batch(step=0, count=4, seed=0) == first != gym.train_batch(step=0, count=4, seed=1)


def test_trained_kinds_are_evaluated_first_and_others_are_out_of_domain():
    gym = task(suites=[{"kind": "leg_counting"}])
    measured = gym.suites(count=3, seed=0)
    assert list(measured) == ["chain_sum", "leg_counting"] and gym.in_domain() == {"chain_sum"}
    trained = {p.messages[-1]["content"] for p in gym.train_batch(step=0, count=50, seed=0)}
    assert not trained & {p.messages[-1]["content"] for p in measured["chain_sum"]}


@pytest.mark.parametrize("kind", ["chain_sum", "leg_counting", "letter_counting", "number_sorting"])
def test_only_the_right_answer_is_right(kind):
    verifier = GymVerifier()
    for problem in task({"kind": kind}).train_batch(step=0, count=5, seed=0):
        assert verifier.verify(problem, f"<answer>{problem.answer}</answer>").success
        wrong = verifier.verify(problem, "<answer>no such answer</answer>")
        assert not wrong.success and 0 <= wrong.score < 0.99
        assert verifier.verify(problem, problem.answer).status == "unparsable"


def test_options_and_curriculum_levels_shape_the_problems():
    two = task({"kind": "chain_sum", "options": {"min_terms": 2, "max_terms": 2}}).train_batch(step=0, count=9, seed=0)
    assert all(problem.meta["entry"]["metadata"]["num_terms"] == 2 for problem in two)
    easy = task({"kind": "chain_sum", "levels": {"num_terms": 0}}).train_batch(step=0, count=9, seed=0)
    hard = task({"kind": "chain_sum", "levels": {"num_terms": 3}}).train_batch(step=0, count=9, seed=0)
    assert max(map(num_terms, easy)) < max(map(num_terms, hard))


def num_terms(problem) -> int:
    return int(problem.meta["entry"]["metadata"]["num_terms"])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ({"kind": "chain_sums"}, "no 'chain_sums'. Did you mean 'chain_sum'?"),
        ({"kind": "chain_sum", "options": {"min_trms": 2}}, "unexpected keyword argument 'min_trms'.*'min_terms'"),
        ({"kind": "chain_sum", "options": {"min_terms": 9, "max_terms": 2}}, "max_terms must be >= min_terms"),
        ({"kind": "chain_sum", "levels": {"nothing": 1}}, "chain_sum refuses"),
    ],
)
def test_unknown_kinds_options_and_levels_are_reported(kind, message):
    with pytest.raises(RunError, match=message):
        task(kind).train_batch(step=0, count=1, seed=0)


def test_the_verifier_needs_the_task():
    registry = PluginManager(selection="builtin").registry
    with pytest.raises(RecipeError, match=r"verifier: 'reasoning_gym' needs 'gym_entry'(.|\n)*task reasoning_gym"):
        load_recipe("rosd", ["verifier=reasoning_gym"], registry=registry)
    load_recipe("rosd", ["verifier=reasoning_gym", "task=reasoning_gym", "task.train=[{kind: chain_sum}]"], registry=registry)


#: Kinds whose problems have no gold text.
WITHOUT_GOLD = {"graph_color", "rush_hour", "rubiks_cube", "propositional_logic", "boxnet"}


def test_text_that_a_model_wrote_runs_in_no_process_that_can_write_or_start_another(tmp_path):
    """Python, a shell command and a class walk, planted for every kind; several scorers evaluate the answer."""
    mark = tmp_path / "was-here"
    answers = [
        f"__import__('pathlib').Path({str(mark)!r}).write_text('x')",
        f"__import__('os').system('touch {mark}')",
        f"[__import__('subprocess').run(['touch', {str(mark)!r}])]",
        f"(1).__class__.__base__.__subclasses__()[0] or open({str(mark)!r}, 'w')",
    ]
    verifier = GymVerifier(GymVerifier.Config(deadline=60.0))
    for kind in sorted(KINDS - {"composite"}):
        problem = task({"kind": kind}).train_batch(step=0, count=1, seed=0)[0]
        texts = [f"<answer>{answer}</answer>" for answer in answers]
        assert len(verifier.verify_group(problem, texts)) == len(answers)
        assert not mark.exists(), f"{kind} ran the answer"
        if kind in WITHOUT_GOLD:
            assert problem.answer == ""
        else:
            assert verifier.verify(problem, f"<answer>{problem.answer}</answer>").score > 0, kind


def test_an_answer_that_never_ends_costs_only_its_own_verdict():
    verifier = GymVerifier(GymVerifier.Config(deadline=4.0))
    problem = task({"kind": "countdown"}).train_batch(step=0, count=1, seed=0)[0]
    answers = [problem.answer, "9**9**9**9", problem.answer]
    verdicts = verifier.verify_group(problem, [f"<answer>{answer}</answer>" for answer in answers])
    assert [(v.status, v.success) for v in verdicts] == [("ok", True), ("error", False), ("ok", True)]
    assert verifier.verify(problem, f"<answer>{problem.answer}</answer>").success


def test_a_kind_that_needs_options_which_recipes_cannot_write_is_refused():
    with pytest.raises(RunError, match=r"List those kinds in task.train instead"):
        task({"kind": "composite"}).train_batch(step=0, count=1, seed=0)
