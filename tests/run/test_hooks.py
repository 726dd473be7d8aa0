"""The hooks that a run calls: all of them, in order, with the arguments that the manual names."""

from __future__ import annotations

import sys

import pytest

from rosd_kit.plugins.validation import HOOKS

OBSERVER = """
import rosd_kit as rk
heard = []

@rk.hookimpl
def rosd_kit_run_start(run): heard.append(("rosd_kit_run_start", run.step))

@rk.hookimpl
def rosd_kit_step_end(run, step, metrics, samples):
    heard.append(("rosd_kit_step_end", step, run.step, metrics["rollout/count"], len(samples.groups)))

@rk.hookimpl
def rosd_kit_evaluation(run, step, results):
    heard.append(("rosd_kit_evaluation", step, len(results), results[0].suite))

@rk.hookimpl
def rosd_kit_run_end(run):
    heard.append(("rosd_kit_run_end", run.step))
"""


@pytest.fixture
def observer(tmp_path):
    """Return a plugin file, and how to read what it heard."""
    file = tmp_path / "observer.py"
    file.write_text(OBSERVER)

    def heard() -> list[tuple]:
        (module,) = [module for name, module in sys.modules.items() if getattr(module, "__file__", None) == str(file)]
        return module.heard

    return file, heard


def test_an_observer_gets_every_hook_of_a_run_in_order(run, tmp_path, observer):
    file, heard = observer
    run(tmp_path / "run", "steps=1", "evaluation.problems=2", "evaluation.samples=1", plugins=[file])
    assert heard() == [
        ("rosd_kit_run_start", 0),
        ("rosd_kit_evaluation", 0, 5, "sums"),
        ("rosd_kit_step_end", 1, 1, 4, 2),
        ("rosd_kit_evaluation", 1, 5, "sums"),
        ("rosd_kit_run_end", 1),
    ]
    assert {name for name, *_ in heard()} == {*HOOKS} - {"rosd_kit_components", "rosd_kit_commands"}


def test_observers_are_told_when_a_run_fails(run, tmp_path, observer):
    file, heard = observer
    file.write_text(OBSERVER + "    raise SystemError('told, and no reason to hide the other error')\n")
    breaking = tmp_path / "breaking.py"
    breaking.write_text(
        "import rosd_kit as rk\nclass Ill(rk.Gate):\n  'Fails at its first group.'\n  name = 'ill'\n"
        "  def decide(self, group): raise ZeroDivisionError('ill')\n"
        "@rk.hookimpl\ndef rosd_kit_components(): return [Ill]\n"
    )
    with pytest.raises(ZeroDivisionError, match="ill"):
        run(tmp_path / "run", "steps=1", "gate=ill", plugins=[file, breaking])
    assert heard() == [("rosd_kit_run_start", 0), ("rosd_kit_run_end", 0)]
