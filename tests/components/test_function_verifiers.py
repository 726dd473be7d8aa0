"""Functions as verifiers, and verifiers by suite."""

from __future__ import annotations

from dataclasses import replace

import pytest

import rosd_kit as rk
from rosd_kit.components.verifiers.function import as_verdict
from rosd_kit.errors import PluginError, RecipeError
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import build_components, load_recipe
from tests.components.rows import asking

PLUGIN = '''
import rosd_kit as rk


@rk.verifier
def ends_with(problem, text, *, word: str = "please", strict: bool = True):
    """Right when the last word is the one."""
    if not text:
        return None
    return text.split()[-1] == word or not strict, f"say {word}"


@rk.verifier
def broken(problem, text):
    raise KeyError(problem.id)


@rk.verifier(sandboxed=True)
def evaluates(problem, text, *, right: int = 4):
    """Right when the text evaluates to a number."""
    return eval(text) == right


@rk.hookimpl
def rosd_kit_components():
    return [ends_with, broken, evaluates]
'''


@pytest.fixture
def registry(tmp_path):
    (tmp_path / "mine.py").write_text(PLUGIN)
    return PluginManager([tmp_path / "mine.py"]).registry


def verifier(registry, *changes: str):
    return build_components(load_recipe("grpo", changes, registry=registry), registry).verifier


def test_a_function_in_a_plugin_file_judges_with_its_options(registry):
    ends_with = verifier(registry, "verifier=ends_with")
    assert ends_with.verify(asking(""), "yes please") == rk.Verdict(score=1.0, success=True, feedback="say please")
    assert not ends_with.verify(asking(""), "yes").success and ends_with.verify(asking(""), "").status == "unparsable"
    other = verifier(registry, "verifier={name: ends_with, word: now}")
    assert other.verify(asking(""), "yes now").success and other.verify(asking(""), "no").feedback == "say now"
    with pytest.raises(RecipeError, match=r"verifier.wrod: unknown field .*Did you mean 'word'\?"):
        verifier(registry, "verifier={name: ends_with, wrod: now}")
    with pytest.raises(RecipeError, match=r"verifier.strict: .* is not allowed"):
        verifier(registry, "verifier={name: ends_with, strict: maybe}")


def test_a_function_that_raises_gives_status_error(registry, caplog):
    verdict = verifier(registry, "verifier=broken").verify(asking(""), "x")
    assert (verdict.status, verdict.success) == ("error", False) and "broken failed on problem p: KeyError" in caplog.text


def test_a_mistake_that_fails_on_every_response_is_reported_once(registry, caplog):
    broken = verifier(registry, "verifier=broken")
    for text in ("x", "y", "z"):
        assert broken.verify(asking(""), text).status == "error"
    assert caplog.text.count("broken failed on problem p: KeyError") == 1


def test_a_function_that_takes_other_parameters_is_refused_when_it_is_decorated():
    def takes_one(problem):
        return True

    with pytest.raises(PluginError, match=r"verifier 'takes_one': .* Write def takes_one\(problem, text\)"):
        rk.verifier(takes_one)


@pytest.mark.parametrize(
    ("result", "score", "success", "feedback", "status"),
    [
        (True, 1.0, True, "", "ok"),
        (0.5, 0.5, True, "", "ok"),
        (0.49, 0.49, False, "", "ok"),
        ((0, "no"), 0.0, False, "no", "ok"),
        (None, 0.0, False, "No answer was found.", "unparsable"),
        (rk.Verdict(score=0.2, success=True), 0.2, True, "", "ok"),
    ],
)
def test_allowed_results_of_a_function_become_verdicts(result, score, success, feedback, status):
    assert as_verdict(result) == rk.Verdict(score=score, success=success, feedback=feedback, status=status)


@pytest.mark.parametrize("result", [2, -1, float("nan"), "yes", (1, 2, 3), []])
def test_other_results_of_a_function_are_refused(result):
    with pytest.raises(ValueError, match="allowed are true, false"):
        as_verdict(result)


def test_each_suite_has_its_verifier_including_those_of_plugins(registry):
    suites = "{a: {name: mcq, letters: AB}, b: ends_with}"
    by_suite = verifier(registry, f"verifier={{name: by_suite, default: exact, suites: {suites}}}")
    answers = {"train": "Answer: B", "a": "<answer>B</answer>", "b": "well please"}
    for suite, text in answers.items():
        problem = replace(asking("B"), suite=suite)
        assert [v.success for v in by_suite.verify_group(problem, list(answers.values()))] == [
            t == text for t in answers.values()
        ]
        assert by_suite.verify(problem, text).success


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("{name: by_suite, default: exct}", r"verifier: unknown 'exct'. Did you mean 'exact'\?"),
        (
            "{name: by_suite, default: {name: mcq, leters: AB}}",
            r"verifier: mcq.leters: unknown field .*Did you mean 'letters'\?",
        ),
        ("{name: by_suite, default: {letters: AB}}", r"names no component"),
        ("by_suite", r"verifier.default: must be given"),
    ],
)
def test_mistakes_in_a_choice_are_reported(registry, choice, message):
    with pytest.raises(RecipeError, match=message):
        verifier(registry, f"verifier={choice}")


def test_a_sandboxed_function_cannot_reach_out_and_has_a_deadline(registry, tmp_path):
    sandboxed = verifier(registry, "verifier={name: evaluates, right: 5, deadline: 4}")
    mark = tmp_path / "mark"
    texts = ["2 + 3", f"open({str(mark)!r}, 'w')", "9**9**9**9", "__import__('os')._exit(0)", "2 + 2", "5"]
    verdicts = sandboxed.verify_group(asking(""), texts)
    assert [(v.status, v.success) for v in verdicts] == [
        ("ok", True), ("error", False), ("error", False), ("error", False), ("ok", False), ("ok", True)
    ]  # fmt: skip
    assert not mark.exists()


def test_what_one_response_changes_in_a_scorer_reaches_no_other(registry):
    sandboxed = verifier(registry, "verifier=evaluates")
    patch = "__import__('builtins').__dict__.update(eval=lambda text: 4) or 4"
    assert [v.success for v in sandboxed.verify_group(asking(""), [patch, "3", patch, "3"])] == [True, False, True, False]


def test_a_parameter_named_like_an_option_of_every_verifier_is_refused():
    with pytest.raises(PluginError, match=r"every verifier has an option 'truncated'. Rename the function's parameter"):
        rk.verifier(lambda problem, text, *, truncated=1: True)


@pytest.mark.parametrize("value", [".inf", "0", "-1", "1e30", ".nan"])
def test_a_deadline_that_cannot_be_waited_for_is_refused_by_name(registry, value):
    with pytest.raises(RecipeError, match=r"verifier.deadline"):
        load_recipe("grpo", [f"verifier={{name: evaluates, deadline: {value}}}"], registry=registry)
