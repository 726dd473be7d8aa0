"""`rosd-kit diagnose`: error spans, placebo texts, sums over regions, and the command's tables, all checked by value."""

from __future__ import annotations

import json
import math

import pytest
import torch

from rosd_kit.cli import main
from rosd_kit.components.contexts.key_idea import KeyIdea
from rosd_kit.components.contexts.solution import Solution
from rosd_kit.components.corrections.none import NoCorrection
from rosd_kit.components.divergences.forward_kl import ForwardKL
from rosd_kit.components.divergences.jsd import JSD
from rosd_kit.components.divergences.reverse_kl import ReverseKL
from rosd_kit.components.objectives.distill import Distill
from rosd_kit.components.supports.full import Full
from rosd_kit.components.supports.sampled import Sampled
from rosd_kit.contracts import LossParts, TeacherModel
from rosd_kit.diagnose.arms import common_traces, draw_arms, privileged_text
from rosd_kit.diagnose.imitation import compare_writing, overlap
from rosd_kit.diagnose.scoring import TokenTable, score_tokens
from rosd_kit.diagnose.spans import ErrorSpan, error_span
from rosd_kit.diagnose.tables import Scored, region_rows, signal_row
from rosd_kit.model.student import Student
from rosd_kit.settings import BatchSettings, ModelSettings
from rosd_kit.types import (
    Case,
    Completion,
    DistillSample,
    FirstError,
    Group,
    Problem,
    Reflection,
    Rollout,
    TeacherView,
    TokenWeights,
    Trace,
    Verdict,
    View,
)

TEXT = "1 + 1 = 2 . 2 + 2 = 5 . Answer : 5 ."


def completion(text: str) -> Completion:
    """One token per word, and an end token without text."""
    spans, at = [], 0
    for word in text.split(" "):
        spans.append((at, at + len(word)))
        at += len(word) + 1
    spans.append((len(text), len(text)))
    ids = tuple(range(len(spans)))
    return Completion(
        prompt_ids=(9,), token_ids=ids, logprobs=(0.0,) * len(ids), text=text, token_spans=tuple(spans), finish_reason="stop"
    )


def rollout(index: int, text: str, right: bool) -> Rollout:
    return Rollout(index=index, completion=completion(text), verdict=Verdict(score=float(right), success=right, feedback=text))


def case(id: str = "p", text: str = TEXT, right: bool = False, **known: object) -> Case:
    problem = Problem(id=id, messages=({"role": "user", "content": f"Question {id}"},), answer="4")
    return Case(problem=problem, rollout=rollout(0, text, right), **known)  # type: ignore[arg-type]


def test_the_oracle_decides_where_the_error_is_even_against_the_localizer():
    truth = FirstError(status="error", step=1, start=12, end=21, sentence_start=12)
    weights = TokenWeights(weights=(1.0,) * 17, outcome="exact", start_char=0)
    assert error_span(case(truth=truth), weights) == ErrorSpan(start=6, end=11, source="oracle")


def test_a_response_that_stops_early_errs_at_its_last_token():
    truth = FirstError(status="incomplete", step=1, start=len(TEXT), end=len(TEXT), sentence_start=len(TEXT))
    assert error_span(case(truth=truth), None) == ErrorSpan(start=16, end=17, source="oracle")


def test_without_an_oracle_the_error_is_from_the_localizers_start_to_the_end_of_the_quote_or_sentence():
    weights = TokenWeights(weights=(1.0,) * 17, outcome="exact", start_char=12)
    assert error_span(case(reflection=Reflection(quote="2 + 2 = 5")), weights) == ErrorSpan(start=6, end=11, source="localizer")
    assert error_span(case(), weights) == ErrorSpan(start=6, end=12, source="localizer")
    nothing = TokenWeights(weights=(1.0,) * 17, outcome="missing")
    assert error_span(case(), nothing) is None
    assert error_span(case(right=True), weights) is None


def trace(one: Case) -> Trace:
    return Trace(case=one, weights=None, teacher_views=(), status="ok")


def test_placebos_show_another_problems_text_and_a_wrong_sibling_and_nothing_of_the_own():
    a = case("a", views=(View(text="solution of a", source="s"),), reflection=Reflection(idea="idea of a"))
    b = case("b", views=(View(text="solution of b", source="s"),), reflection=Reflection(idea="idea of b"))
    groups = [
        Group(problem=one.problem, rollouts=(one.rollout, rollout(1, f"wrong sibling of {one.problem.id}", False)))
        for one in (a, b)
    ]
    arms = draw_arms({"solution": Solution(), "key_idea": KeyIdea()}, [trace(a), trace(b)], groups)
    shown = {arm.name: [privileged_text(prompts) for prompts in arm.prompts] for arm in arms}
    assert shown == {
        "solution": ["solution of a", "solution of b"],
        "solution (another problem's)": ["solution of b", "solution of a"],
        "solution (a wrong rollout)": ["wrong sibling of a", "wrong sibling of b"],
        "key_idea": ["idea of a", "idea of b"],
        "key_idea (another problem's)": ["idea of b", "idea of a"],
    }
    for arm in arms:
        for prompts, one in zip(arm.prompts, (a, b), strict=True):
            assert f"Question {one.problem.id}" in prompts[0].sections[0].text + prompts[0].sections[1].text


def test_arms_are_compared_on_the_rollouts_that_all_of_them_cover_and_a_rare_arm_is_left_out():
    cases = [
        case(id, views=(View(text=f"of {id}", source="s"),), reflection=Reflection(idea="an idea" if id == "a" else None))
        for id in "abcd"
    ]
    groups = [Group(problem=one.problem, rollouts=(one.rollout,)) for one in cases]
    ideas = KeyIdea(KeyIdea.Config(fallback="skip"))
    kept, common = common_traces(draw_arms({"solution": Solution(), "key_idea": ideas}, [trace(c) for c in cases], groups))
    assert [arm.name for arm in kept] == ["solution", "solution (another problem's)"]
    assert common == {0, 1, 2, 3}


def scored(values: list[float], weights: list[float], span: ErrorSpan | None, right: bool = False) -> Scored:
    table = TokenTable(
        measures={"kl": tuple(values)}, student_entropy=tuple(2 * v for v in values), teacher_entropy=(1.0,) * len(values)
    )
    return Scored(success=right, span=span, weights=tuple(weights), table=table)


def test_rows_are_means_per_token_and_shares_of_the_sum():
    span = ErrorSpan(start=2, end=3, source="oracle")
    both = [
        scored([0.1, 0.3, 1.0, 0.6], [0, 0, 1, 1], span),
        scored([0.5, 0.5], [1, 0], None, right=True),
    ]
    rows = {row.region: row for row in region_rows(both)}
    assert {name: (row.tokens, pytest.approx(row.measures["kl"])) for name, row in rows.items()} == {
        "prefix": (2, 0.2),
        "error": (1, 1.0),
        "after": (1, 0.6),
        "right": (2, 0.5),
    }
    assert rows["prefix"].student_entropy == pytest.approx(0.4)
    signal = signal_row(both, "kl")
    assert signal.shares == {"prefix": pytest.approx(0.2), "error": pytest.approx(0.5), "after": pytest.approx(0.3)}
    assert signal.of_right == pytest.approx(1 / 3)
    assert signal.removed == pytest.approx(0.2)
    assert signal.removed_of_all == pytest.approx(0.9 / 3)


def test_wrong_rollouts_whose_error_is_unknown_have_a_row_of_their_own_and_no_shares():
    lone = [scored([0.2, 0.4], [1, 1], None)]
    assert [(row.region, row.tokens) for row in region_rows(lone)] == [("unlocated", 2)]
    signal = signal_row(lone, "kl")
    assert all(math.isnan(share) for share in signal.shares.values())
    assert signal.removed == 0.0


def test_overlap_counts_runs_of_four_words():
    shown = "a b c d e f"
    assert overlap("a b c d e f", shown) == 1.0
    assert overlap("x a b c d y", shown) == pytest.approx(1 / 3)
    assert overlap("f e d c b a", shown) == 0.0
    assert overlap("c d", shown) == 1.0
    assert overlap("", shown) == 0.0
    writing = compare_writing(["a b c d"], [("a b c d", True)], [("d c b a e", False)])
    assert (writing.teacher_overlap, writing.student_overlap) == (1.0, 0.0)
    assert (writing.teacher_words, writing.student_words, writing.shown_words) == (4, 5, 4)
    assert (writing.teacher_right, writing.student_right) == (1.0, 0.0)


@pytest.fixture(scope="module")
def student() -> Student:
    return Student.load(ModelSettings(path="micro", dtype="float32"), keep_initial=False)


@torch.no_grad()
def test_scores_equal_divergences_of_the_models_own_logprobs(student):
    prompt, other = ((5, 20, 30), (5, 20, 31, 32, 7)), ((5, 21), (6, 20, 33))
    samples = [
        DistillSample(
            problem_id=f"p{i}",
            prompt_ids=own,
            response_ids=(40, 41, 42 + i),
            behaviour_logprobs=(0.0,) * 3,
            token_weights=(1.0,) * 3,
            teacher_views=(TeacherView(prompt_ids=shown, source="s"),),
            reward=0.0,
            success=False,
            group_rewards=(0.0,),
        )
        for i, (own, shown) in enumerate((prompt, other))
    ]
    measures = {
        name: Distill(Distill.Config(), LossParts(support=support, divergence=divergence, correction=NoCorrection()))
        for name, support, divergence in (
            ("kl", Full(), ForwardKL()),
            ("js", Full(), JSD(JSD.Config(beta=0.5))),
            ("sampled", Sampled(), ReverseKL()),
        )
    }
    tables = score_tokens(
        samples, measures, student=student, teacher_models=(TeacherModel(student.model),), settings=BatchSettings(tokens=64)
    )

    def logp(start: tuple[int, ...], response: tuple[int, ...]) -> torch.Tensor:
        logits = student.model(torch.tensor([start + response])).logits[0, len(start) - 1 : -1]
        return logits.double().log_softmax(-1)

    for sample, table in zip(samples, tables, strict=True):
        s, t = logp(sample.prompt_ids, sample.response_ids), logp(sample.teacher_views[0].prompt_ids, sample.response_ids)
        mean = ((s.exp() + t.exp()) / 2).log()
        token = torch.tensor(sample.response_ids)[:, None]
        expected = {
            "kl": (t.exp() * (t - s)).sum(-1),
            "js": ((t.exp() * (t - mean)).sum(-1) + (s.exp() * (s - mean)).sum(-1)) / 2,
            "sampled": (s - t).gather(1, token)[:, 0],
        }
        for name, values in expected.items():
            assert table.measures[name] == pytest.approx(values.tolist(), abs=1e-4)
        assert table.student_entropy == pytest.approx((-s.exp() * s).sum(-1).tolist(), abs=1e-4)
        assert table.teacher_entropy == pytest.approx((-t.exp() * t).sum(-1).tolist(), abs=1e-4)


SMALL = ("problems_per_step=6", "group_size=4", "--rollouts", "8")


def call(capsys, *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main(["diagnose", *words])
    said = capsys.readouterr()
    return int(end.value.code or 0), said.out, said.err


def test_the_command_measures_all_arms_on_the_same_rollouts(capsys, tmp_path):
    out = tmp_path / "found.json"
    code, printed, _ = call(capsys, "rosd", *SMALL, "--json", "--out", str(out))
    found = json.loads(printed)
    assert code == 0 and json.loads(out.read_text()) == found
    names = [(arm["context"], arm["placebo"]) for arm in found["arms"]]
    assert names[:2] == [("key_idea", ""), ("key_idea", "another problem's")]
    assert ("solution", "") in names and ("solution", "another problem's") in names
    tokens = [{row["region"]: row["tokens"] for row in arm["regions"]} for arm in found["arms"]]
    assert all(one == tokens[0] for one in tokens)
    own = {row["region"]: row["measures"]["kl"] for row in found["arms"][0]["regions"]}
    assert own["error"] > 10 * own["prefix"]
    assert found["located_by"] == {"oracle": found["wrong"]}
    assert found["cost"]["reflector"] == "tutor" and found["cost"]["reflection_tokens"] > 0
    loss = next(signal for signal in found["arms"][0]["signals"] if signal["measure"] == "loss")
    assert loss["removed"] < 0.05 and sum(loss["shares"].values()) == pytest.approx(1.0)
    copied = next(arm["imitation"] for arm in found["arms"] if (arm["context"], arm["placebo"]) == ("solution", ""))
    assert copied["teacher_overlap"] > 0.8 > copied["student_overlap"]


def test_rows_that_the_model_cannot_read_are_refused(capsys, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "Anna has 3 apples and buys 4 more.", "answer": "7"}\n' * 4)
    task = f"task={{name: dataset, path: {rows}, prompt: '{{question}}', answer: '{{answer}}', held_out: 0}}"
    code, _, errors = call(capsys, "sdpo", task, "verifier=exact")
    assert code == 2 and "model.unknown_tokens" in errors and "the training problems" in errors


def test_tables_and_sentences_say_what_was_changed_to_compare(capsys):
    code, printed, _ = call(capsys, "sdpo", *SMALL)
    assert code == 0
    assert "Shares of the signal" in printed and "of the signal on wrong rollouts lies before the first error" in printed
    assert "note: reflector=oracle, since the recipe has none" in printed


def test_a_run_is_measured_under_its_teacher_its_initial_weights_and_itself(capsys, tmp_path):
    with pytest.raises(SystemExit) as end:
        main(["run", "sdpo", "steps=1", "optimizer.lr=1e-2", *SMALL[:2], "evaluation.problems=0", "--quiet", "--out",
              str(tmp_path), "--name", "one"])  # fmt: skip
    assert not end.value.code
    capsys.readouterr()
    code, printed, _ = call(capsys, str(tmp_path / "one"), "--rollouts", "8", "--json")
    found = json.loads(printed)
    assert code == 0 and found["step"] == 1
    assert json.loads((tmp_path / "one/diagnosis.json").read_text()) == found
    assert [arm["teacher"] for arm in found["arms"]][:3] == ["ema", "frozen", "live"]
    kls = [sum(row["measures"]["kl"] * row["tokens"] for row in arm["regions"]) for arm in found["arms"][:3]]
    assert len(set(kls)) == 3


def test_a_recipe_without_a_teacher_and_a_missing_folder_are_refused(capsys, tmp_path):
    code, _, errors = call(capsys, "grpo")
    assert code == 2 and "no loss term with a teacher" in errors and "rosd or sdpo" in errors
    code, _, errors = call(capsys, "rosd", "--out", str(tmp_path / "nowhere/file.json"))
    assert code == 2 and "there is no folder" in errors
