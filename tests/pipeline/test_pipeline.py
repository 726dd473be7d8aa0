"""A whole step with real components: what each of them receives, what is counted, and that a step is reproducible."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rosd_kit.components.tasks.micro import as_problem
from rosd_kit.micro.domains import DOMAINS
from rosd_kit.micro.domains.base import Instance
from rosd_kit.types import Sampling

RECIPES = Path(__file__).parents[2] / "recipes"
NAMES = sorted(
    str(path.relative_to(RECIPES).with_suffix(""))
    for folder in ("", "ablations")
    for path in (RECIPES / folder).glob("*.yaml")
    if not path.name.endswith(".sweep.yaml")
)
SMALL = ("sampling.max_new_tokens=60",)

PROBLEM = as_problem(
    DOMAINS["sums"], Instance(start=(17,), moves=(("+", 8), ("-", 5), ("+", 9))), suite="sums", id="three-moves"
)
RIGHT = "Step 1 : 17 + 8 = 25 . Step 2 : 25 - 5 = 20 . Step 3 : 20 + 9 = 29 . Answer : 29 ."
WRONG = "Step 1 : 17 + 8 = 25 . Step 2 : 25 - 5 = 21 . Step 3 : 21 + 9 = 30 . Answer : 30 ."
TOLD = "<error_quote> 25 - 5 = 21 </error_quote> <explanation> 25 - 5 = 20 . 20 + 9 = 29 </explanation>"
VALID = "<explanation> 17 + 8 = 25 . 25 - 5 = 20 . 20 + 9 = 29 </explanation>"


def problems_of(pipeline, count=3, step=0):
    return pipeline.components.task.train_batch(step=step, count=count, seed=pipeline.seed)


def total(metrics, prefix):
    return sum(value for name, value in metrics.items() if name.startswith(f"{prefix}/"))


def without_times(batch):
    return {name: value for name, value in batch.metrics.items() if not name.startswith("time/")}


def scripted(make_pipeline, *changes, rollouts=(WRONG, RIGHT), reflections=(TOLD, VALID), recipe="rosd"):
    pipeline = make_pipeline(recipe, f"group_size={len(rollouts)}", *changes, says=[rollouts, reflections])
    return pipeline, pipeline.step([PROBLEM], 0)


def weighted_text(student, sample):
    pairs = zip(sample.response_ids, sample.token_weights, strict=True)
    return student.tokenizer.decode([token for token, weight in pairs if weight])


@pytest.fixture(scope="module", params=NAMES)
def real_step(request, make_pipeline):
    """One step of a shipped recipe: its pipeline, its problems and what came out."""
    pipeline = make_pipeline(request.param, *SMALL)
    problems = problems_of(pipeline)
    return pipeline, problems, pipeline.step(problems, 0)


def test_the_student_is_asked_the_problem_and_only_the_teacher_is_told_more(real_step, student):
    pipeline, asked_problems, batch = real_step
    problems = {p.id: p for p in asked_problems}
    answered = {c.token_ids for g in batch.groups for c in (r.completion for r in g.rollouts)}
    for sample in batch.samples:
        problem = problems[sample.problem_id]
        assert sample.prompt_ids == student.prompt_ids(problem.messages)
        assert sample.response_ids in answered
        lengths = {len(x) for x in (sample.response_ids, sample.behaviour_logprobs, sample.token_weights)}
        assert lengths == {len(sample.response_ids)}
        assert all(0 <= weight <= 1 for weight in sample.token_weights)
        assert set(sample.token_weights) <= {0.0, 1.0} or pipeline.components.localizer.name == "soft_error"
    for trace in batch.traces:
        case = trace.case
        told = [view.text for view in case.views] + [case.reflection.idea if case.reflection else None]
        asked = student.tokenizer.decode(case.rollout.completion.prompt_ids)
        assert not any(text and text in asked for text in told)
        for view in trace.teacher_views:
            prompt = student.tokenizer.decode(view.prompt_ids)
            assert case.problem.messages[-1]["content"] in prompt and len(view.prompt_ids) > len(asked.split())
            assert prompt.endswith("<|start|> assistant :")


def test_rollouts_are_asked_for_as_the_recipe_says_at_the_step(make_pipeline):
    changes = (
        "sampling.top_p=0.9",
        "sampling.top_k={from: 40, to: 20, steps: 2}",
        "sampling.min_p=0.05",
        "sampling.stop=['#']",
    )
    pipeline = make_pipeline("grpo", "group_size=2", *SMALL, *changes, says=[(WRONG, RIGHT)] * 3)
    for step in (0, 1, 2):
        pipeline.step([PROBLEM], step)
    expected = Sampling(temperature=1.0, top_p=0.9, min_p=0.05, stop=("#",), max_new_tokens=60)
    sampled = [{request.sampling for request in requests} for requests, _ in pipeline.engine.received]
    assert sampled == [{replace(expected, top_k=top_k)} for top_k in (40, 30, 20)]


def test_everything_is_counted_once(real_step):
    pipeline, problems, batch = real_step
    metrics, rollouts = batch.metrics, [r for g in batch.groups for r in g.rollouts]
    assert len(rollouts) == len(problems) * pipeline.group_size == metrics["rollout/count"]
    assert total(metrics, "finish") == total(metrics, "verify") == len(rollouts)
    assert metrics["rollout/success"] == pytest.approx(sum(r.verdict.success for r in rollouts) / len(rollouts))
    assert metrics["tokens/generate"] == sum(len(r.completion.token_ids) for r in rollouts)
    assert metrics["rollout/length"] == pytest.approx(metrics["tokens/generate"] / len(rollouts))
    assert total(metrics, "gate") == len(batch.groups) == len(problems)
    assert total(metrics, "sample") == len(batch.traces)
    assert metrics["train/samples"] == len(batch.samples)
    if any(trace.weights for trace in batch.traces):
        assert total(metrics, "reflect") == total(metrics, "localize") == len(batch.traces)
        assert total(metrics, "context") == sum(len(t.teacher_views) for t in batch.traces)


@pytest.mark.parametrize("name", ["rosd", "opsd"])
def test_the_same_seed_and_step_give_the_same_step_and_others_another(name, make_pipeline):
    def step(seed, number, problems):
        shown = "random_success" if name == "rosd" else "other_problem"
        changes = (f"seed={seed}", f"demonstration={shown}", "sampling.temperature=2.0")
        return make_pipeline(name, *SMALL, *changes).step(problems, number)

    problems = problems_of(make_pipeline(name))
    first, again = step(1, 0, problems), step(1, 0, problems)
    assert (first.samples, first.groups, first.traces) == (again.samples, again.groups, again.traces)
    assert without_times(first) == without_times(again)
    assert step(2, 0, problems).groups != first.groups
    assert step(1, 1, problems).groups != first.groups


def test_a_worked_step_of_rosd(make_pipeline, student):
    pipeline, batch = scripted(make_pipeline)
    wrong, right = batch.samples
    assert (wrong.success, wrong.reward, right.success, right.reward) == (False, 0.0, True, 1.0)
    assert wrong.group_rewards == right.group_rewards == (0.0, 1.0)
    assert weighted_text(student, wrong) == "25 - 5 = 21 . Step 3 : 21 + 9 = 30 . Answer : 30 . <|end|>"
    assert set(right.token_weights) == {1.0}
    assert [view.source for view in wrong.teacher_views] == ["idea"]
    prompt = student.tokenizer.decode(wrong.teacher_views[0].prompt_ids)
    assert "25 - 5 = 20 . 20 + 9 = 29" in prompt and RIGHT not in prompt and "25 - 5 = 21" not in prompt
    asked, weights = pipeline.engine.received[1]
    first, second = (student.tokenizer.decode(request.prompt_ids) for request in asked)
    assert WRONG in first and RIGHT in first and RIGHT in second and WRONG not in second
    assert weights == "initial" and {request.sampling.temperature for request in asked} == {0.0}
    expected = {
        "gate/mixed": 1,
        "verify/ok": 2,
        "reflect/ok": 2,
        "localize/exact": 1,
        "localize/right": 1,
        "context/idea": 2,
        "sample/ok": 2,
        "oracle/exact_start": 1,
        "oracle/quote_asked": 1,
        "oracle/quote_right": 1,
        "oracle/idea_asked": 1,
        "oracle/idea_right": 1,
        "train/samples": 2,
        "budget/teacher_cut": 0,
    }
    assert {name: batch.metrics.get(name) for name in expected} == expected


def test_the_sentence_boundary_is_as_exact_as_the_quote(make_pipeline, student):
    _, batch = scripted(make_pipeline, recipe="rosd_v2")
    text = "Step 2 : 25 - 5 = 21 . Step 3 : 21 + 9 = 30 . Answer : 30 . <|end|>"
    assert weighted_text(student, batch.samples[0]) == text
    assert batch.metrics["oracle/exact_start"] == 1


@pytest.mark.parametrize("recipe", ["rosd", "rosd_v2"])
@pytest.mark.parametrize(
    ("quote", "outcome"),
    [("21 + 9 = 30", "within_step"), ("17 + 8 = 25", "within_step"), ("Answer : 30", "missed"), ("no such text", "missed")],
)
def test_another_quote_is_near_or_missed_for_both_boundaries(make_pipeline, recipe, quote, outcome):
    told = f"<error_quote> {quote} </error_quote> <explanation> 21 + 9 = 30 </explanation>"
    _, batch = scripted(make_pipeline, recipe=recipe, reflections=(told, VALID))
    assert {n for n in batch.metrics if n.startswith("oracle/") and batch.metrics[n]} == {
        f"oracle/{outcome}",
        "oracle/quote_asked",
        "oracle/idea_asked",
    }


@pytest.mark.parametrize(("missing", "samples", "status"), [("skip", 1, "no_weight"), ("full", 2, "ok"), ("sentence", 2, "ok")])
def test_an_unreadable_reflection_falls_back_by_policy_and_is_counted(make_pipeline, missing, samples, status):
    _, batch = scripted(make_pipeline, f"localizer.missing={missing}", reflections=("I can not say", VALID))
    assert len(batch.samples) == samples and batch.traces[0].status == status
    metrics = batch.metrics
    assert (metrics["reflect/unparsable"], metrics["localize/missing"], metrics["context/demonstration"]) == (1, 1, 1)
    assert metrics["oracle/missed" if missing != "sentence" else "localize/missing"] == 1
    assert batch.traces[0].teacher_views[0].source == "sibling 1"


def test_without_idea_or_fallback_the_rollout_is_left_out(make_pipeline):
    _, batch = scripted(make_pipeline, "context.fallback=skip", reflections=("I can not say", VALID))
    assert [sample.success for sample in batch.samples] == [True]
    assert batch.traces[0].status == "no_privileged_text"
    assert batch.metrics["sample/no_privileged_text"] == 1


@pytest.mark.parametrize(("rollouts", "outcome"), [((WRONG, WRONG), "all_wrong"), ((RIGHT, RIGHT), "all_right")])
def test_gated_groups_are_not_paid_for(make_pipeline, rollouts, outcome):
    pipeline, batch = scripted(make_pipeline, rollouts=rollouts)
    assert len(pipeline.engine.received) == 1
    assert (batch.samples, batch.traces) == ((), ()) and batch.metrics[f"gate/{outcome}"] == 1


def test_a_demonstration_is_a_sibling_never_the_rollout_itself(make_pipeline):
    _, batch = scripted(make_pipeline, rollouts=(RIGHT, WRONG, RIGHT), reflections=(VALID, TOLD, VALID))
    assert [[view.source for view in trace.case.views] for trace in batch.traces] == [
        ["sibling 2"],
        ["sibling 0"],
        ["sibling 0"],
    ]


def test_responses_with_ids_that_have_no_token_are_counted(make_pipeline, student):
    one, other = (set(student.tokenizer(text)["input_ids"]) for text in (WRONG, RIGHT))
    in_one, in_both = min(one - other), min(one & other)
    counts = []
    for ids in ((), (in_one,), (in_one, in_both)):
        pipeline = make_pipeline("rosd", "group_size=2", says=[(WRONG, RIGHT), (TOLD, VALID)])
        batch = replace(pipeline, ids_without_token=frozenset(ids)).step([PROBLEM], 0)
        counts.append(batch.metrics.get("rollout/without_token"))
    assert counts == [None, 1.0, 2.0]


def test_a_response_without_tokens_is_skipped_and_counted(make_pipeline):
    _, batch = scripted(make_pipeline, rollouts=("", WRONG, RIGHT))
    assert batch.metrics["skip/empty_response"] == 1 and len(batch.samples) == 2
    assert batch.samples[0].group_rewards == (0.0, 0.0, 1.0)


def test_policy_gradients_need_neither_reflection_nor_teacher(make_pipeline):
    pipeline, batch = scripted(make_pipeline, recipe="grpo")
    assert len(pipeline.engine.received) == 1
    assert [(s.teacher_views, set(s.token_weights)) for s in batch.samples] == [((), {1.0})] * 2
    assert not any(name.startswith(("reflect/", "localize/", "oracle/")) for name in batch.metrics)


def test_only_successes_are_imitated(make_pipeline):
    _, batch = scripted(make_pipeline, recipe="rft")
    assert [s.success for s in batch.samples] == [True] and len(batch.traces) == 2


def test_overlong_student_prompts_are_an_outcome(make_pipeline):
    pipeline = make_pipeline("opsd", "sampling.max_prompt_tokens=5", says=[])
    batch = pipeline.step([PROBLEM], 0)
    assert pipeline.engine.received == [] and batch.samples == ()
    assert batch.metrics["finish/overlong"] == batch.metrics["verify/unparsable"] == batch.metrics["skip/empty_response"] == 1


def test_one_overlong_prompt_leaves_the_others_in_their_places(make_pipeline, student):
    long = as_problem(
        DOMAINS["sums"], Instance(start=(17,), moves=(("+", 8), ("-", 5)) * 20), suite="sums", id="forty-moves"
    )  # fmt: skip
    limit = len(student.prompt_ids(PROBLEM.messages))
    pipeline = make_pipeline("opsd", f"sampling.max_prompt_tokens={limit}", says=[[WRONG]])
    batch = pipeline.step([long, PROBLEM], 0)
    assert [g.rollouts[0].completion.finish_reason for g in batch.groups] == ["overlong", "stop"]
    assert [s.problem_id for s in batch.samples] == ["three-moves"]


def test_a_reflection_prompt_over_its_budget_is_a_status(make_pipeline):
    pipeline, batch = scripted(make_pipeline, "reflector.max_prompt_tokens=5")
    assert len(pipeline.engine.received) == 1
    assert batch.metrics["reflect/overlong"] == batch.metrics["budget/reflect_overlong"] == 2
    assert batch.metrics["localize/missing"] == 1


def test_a_teacher_prompt_without_room_for_the_problem_is_left_out(make_pipeline):
    _, batch = scripted(make_pipeline, "sampling.max_teacher_prompt_tokens=10")
    assert batch.samples == () and {trace.status for trace in batch.traces} == {"no_privileged_text"}
    assert batch.metrics["budget/teacher_overlong"] == 2


def test_a_tight_teacher_budget_shortens_the_privileged_text_and_is_counted(make_pipeline, student):
    _, whole = scripted(make_pipeline)
    length = len(whole.samples[0].teacher_views[0].prompt_ids)
    _, cut = scripted(make_pipeline, f"sampling.max_teacher_prompt_tokens={length - 2}")
    prompt = student.tokenizer.decode(cut.samples[0].teacher_views[0].prompt_ids)
    assert cut.metrics["budget/teacher_cut"] == 2
    assert PROBLEM.messages[0]["content"] in prompt and prompt.endswith("Solve it correctly . <|end|> <|start|> assistant :")


def test_phases_are_shown_in_order(make_pipeline):
    phases: list[str] = []
    pipeline = replace(make_pipeline("rosd", "group_size=2", says=[[WRONG, RIGHT], [TOLD, VALID]]), on_phase=phases.append)
    pipeline.step([PROBLEM], 0)
    assert phases == ["generate", "verify", "reflect"]


def test_each_view_is_a_teacher_prompt_with_its_own_source(make_pipeline):
    _, batch = scripted(make_pipeline, "context=solution_and_idea")
    assert batch.samples[0].teacher_views[0].source == "sibling 1, idea"
    assert batch.metrics["context/demonstration+idea"] == 1
