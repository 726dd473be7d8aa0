"""A component that raises or breaks its contract is reported and counted, and costs only the samples concerned."""

from __future__ import annotations

import pytest

from rosd_kit.cli import main
from rosd_kit.files import read_json_lines
from tests.run.conftest import TINY

#: Slot to the base class, method and arguments of a plugin, and a valid result.
HEALTHY = {
    "verifier": ("Verifier", "verify_group", "problem, texts", "[rk.Verdict(score=1.0, success=True) for _ in texts]"),
    "gate": ("Gate", "decide", "group", "decision(rk.Passed(index=r.index) for r in group.rollouts)"),
    "demonstration": ("Demonstration", "views", "group, rollout, batch, rng", "(rk.View(text='so', source='plugin'),)"),
    "reflector": ("Reflector", "reflect", "cases, generate", "[rk.Reflection(idea='so') for _ in cases]"),
    "localizer": ("Localizer", "locate", "case", "weights(case, 1.0)"),
    "context": ("Context", "prompts", "case", "(prompt('solve it', 'so'),)"),
}
INVALID = {
    "verifier": ["None", "[]", "[1.0] * len(texts)", "[rk.Verdict(score=float('nan'), success=True) for _ in texts]", "1 / 0"],
    "gate": ["None", "True", "decision([rk.Passed(index=99)])", "decision([rk.Passed(index=0, weight=float('inf'))])", "1 / 0"],
    "demonstration": ["None", "'a text'", "('a text',)", "1 / 0"],
    "localizer": ["None", "(1.0,)", "short()", "weights(case, 2.0)", "weights(case, float('nan'))", "1 / 0"],
    "context": ["None", "'a text'", "(1,)", "1 / 0"],
}

PLUGIN = '''
import rosd_kit as rk

calls = refined = 0


def decision(passed):
    return rk.GateDecision(outcome="plugin", passed=tuple(passed))


def weights(case, weight):
    return rk.TokenWeights(weights=(weight,) * len(case.rollout.completion.token_ids), outcome="plugin")


def short():
    return rk.TokenWeights(weights=(1.0,), outcome="plugin")


def prompt(text, privileged):
    return rk.Prompt(head=(), sections=(rk.Section(text=text), rk.Section(text=privileged, cut_priority=1)))


class Bad(rk.{base}):
    """Fails at every {every}th call."""

    name = "bad"
    provides = frozenset({{"reflection", "quote", "feedback", "teacher_prompt"}})
    {more}

    def {method}(self, {arguments}):
        global calls
        calls += 1
        with open(__file__ + ".calls", "w") as file:
            file.write(str(calls))
        return {bad} if calls % {every} == 0 else {good}


@rk.hookimpl
def rosd_kit_components():
    return [Bad]
'''
MORE = {"verifier": "def verify(self, problem, text):\n        return self.verify_group(problem, [text])[0]"}


@pytest.fixture
def train(tmp_path, capsys):
    """Return a function that runs with a plugin in a slot and returns the exit code or exception, the errors and the folder."""

    def train(slot, bad, every, *changes):
        base, method, arguments, good = HEALTHY[slot]
        file = tmp_path / "bad.py"
        more = MORE.get(slot, "")
        file.write_text(
            PLUGIN.format(base=base, method=method, arguments=arguments, good=good, bad=bad, every=every, more=more)
        )
        sizes = ["steps=2", "sampling.max_new_tokens=8", "model.unknown_tokens=1", f"{slot}=bad", "--plugin", str(file)]
        command = ["run", "rosd", *TINY, *sizes, *changes, "--out", str(tmp_path), "--name", "run", "--quiet"]
        code: object
        try:
            main(command)
            code = 0
        except SystemExit as exit:
            code = exit.code or 0
        except Exception as error:
            code = error
        return code, capsys.readouterr().err, tmp_path / "run"

    return train


@pytest.mark.parametrize("slot", INVALID)
def test_a_component_that_fails_on_some_samples_costs_only_those(train, slot):
    """Every second call returns something invalid, another thing each time."""
    results = INVALID[slot]
    in_turn = " else ".join(f"({result}) if turn % {len(results)} == {index}" for index, result in enumerate(results))
    code, errors, folder = train(slot, f"(lambda turn: {in_turn} else 0)(calls // 2)", 2, "problems_per_step=6")
    assert code == 0, f"{code!r}\n{errors}"
    steps = list(read_json_lines(folder / "metrics.jsonl"))
    assert [line["step"] for line in steps] == [1, 2]
    invalid = int((folder.parent / "bad.py.calls").read_text()) // 2
    assert sum(line.get(f"fault/{slot}", 0) for line in steps) == invalid >= len(results)
    assert all(line["train/samples"] >= 1 for line in steps)
    warnings = [line for line in errors.splitlines() if f"{slot} 'bad' failed on" in line]
    assert len(warnings) == 1, "the warning must appear once"
    assert "of problem 'sums" in errors or "on problem 'sums" in errors, "the sample is not named"


@pytest.mark.parametrize("slot", HEALTHY)
def test_a_component_that_always_fails_ends_the_run_with_its_own_error(train, slot):
    code, errors, folder = train(slot, "1 / 0", every=1)
    assert code == 1, code
    line = next(line for line in errors.splitlines() if line.startswith("error: ZeroDivisionError: division by zero; "))
    assert f"raised in {slot} 'bad'" in line and "bad.py" in line
    assert f"{slot} 'bad' failed on" in line and "first on" in line
    (crash,) = folder.glob("crash-*.txt")
    assert f"The whole traceback is in {crash}" in errors and "ZeroDivisionError: division by zero" in crash.read_text()
    assert not (folder / "model").exists()


@pytest.mark.parametrize("bad", ["None", "[]", "[1] * len(cases)", "1 / 0"])
def test_a_reflector_that_fails_on_some_cases_costs_only_their_reflections(train, bad):
    """A batch that fails is retried in halves; a case that fails alone gets the recipe's fallback."""
    code, errors, folder = train("reflector", bad, every=2)
    assert code == 0, errors
    steps = list(read_json_lines(folder / "metrics.jsonl"))
    assert [line.get("fault/reflector", 0) for line in steps] == [0, 1]
    assert steps[1]["reflect/fault"] == 1 < steps[1]["train/samples"]
    assert "reflector 'bad' failed on" in errors


REFINE = """
    refines = True

    def refine(self, sample, scores):
        global refined
        refined += 1
        return {bad} if refined % 2 == 0 else sample.token_weights
"""


@pytest.mark.parametrize("bad", ["(1.0,)", "None", "[float('nan')] * len(sample.response_ids)", "1 / 0"])
def test_invalid_refined_weights_cost_only_their_sample(train, bad, monkeypatch):
    monkeypatch.setitem(MORE, "localizer", REFINE.format(bad=bad))
    code, errors, folder = train("localizer", "None", every=10_000)
    assert code == 0, errors
    steps = list(read_json_lines(folder / "metrics.jsonl"))
    assert all(line["fault/refine"] == line["train/samples"] // 2 >= 1 for line in steps[:1])
    assert [line for line in errors.splitlines() if "localizer 'bad' failed on" in line and "a rollout of problem" in line]
