"""Chat templates that open the thinking block themselves, and responses that are cut off inside it."""

from __future__ import annotations

import pytest

from rosd_kit.model.student import Student
from rosd_kit.settings import ModelSettings

JUDGE = """
import rosd_kit as rk

rosd_kit_api = 2


class Spoken(rk.Verifier):
    \"\"\"Passes whatever has an answer text.\"\"\"

    name = "spoken"

    def verify(self, problem, text):
        return rk.Verdict(score=float(bool(text)), success=bool(text), feedback="")


@rk.hookimpl
def rosd_kit_components():
    return [Spoken]
"""


@pytest.mark.parametrize(("opening", "rate"), [("", 1.0), ("<think>\n", 0.0), ("<think>\n\n</think>\n", 1.0)])
def test_responses_that_are_cut_off_in_opened_thinking_have_no_text(run, tmp_path, opening, rate):
    """Sampled with 4 tokens each, so that all are cut off: in a step and in the evaluations around it."""
    (tmp_path / "judge.py").write_text(JUDGE)
    template = Student.load(ModelSettings(path="micro", device="cpu"), keep_initial=False).tokenizer.chat_template
    (tmp_path / "opened.jinja").write_text(template + "{% if add_generation_prompt %}{{ " + repr(opening) + " }}{% endif %}")
    changes = (
        "steps=1", f"model.chat_template={tmp_path / 'opened.jinja'}", "sampling.max_new_tokens=4", "evaluation.problems=2",
        "verifier={name: spoken, truncated: score}",
    )  # fmt: skip
    folder = run(tmp_path / "one", *changes, plugins=[tmp_path / "judge.py"])
    assert folder.lines("metrics.jsonl")[0]["rollout/truncated"] == 4
    assert folder.lines("metrics.jsonl")[0]["rollout/success"] == rate
    assert {result["mean"] for line in folder.lines("evaluations.jsonl") for result in line["results"]} == {rate}
