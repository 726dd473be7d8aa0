"""Steps whose loss or gradient is NaN or infinite."""

from __future__ import annotations

import math

import pytest

from rosd_kit.cli import main
from rosd_kit.errors import RunError

PLUGIN = '''
import torch
import rosd_kit as rk

step = 1


class Sick(rk.Divergence):
    """Reverse KL that falls ill at chosen steps."""

    name = "sick"

    class Config(rk.Divergence.Config):
        """Options."""

        at: tuple[int, ...] = ()
        """Steps, from 1."""
        how: str = "nan"
        """What goes wrong."""

    def per_token(self, student, teacher):
        value = (student.exp() * (student - teacher)).sum(-1)
        if step not in self.config.at:
            return value
        if self.config.how == "gradient":
            return value + torch.sqrt(value - value.detach())
        return value * float(self.config.how)


@rk.hookimpl
def rosd_kit_components():
    return [Sick]


@rk.hookimpl
def rosd_kit_run_start(run):
    global step
    step = run.step + 1


@rk.hookimpl
def rosd_kit_step_end(run):
    global step
    step = run.step + 1
'''


@pytest.fixture
def plugin(tmp_path):
    file = tmp_path / "sick.py"
    file.write_text(PLUGIN)
    return file


@pytest.mark.parametrize("how", ["nan", "inf", "gradient"])
def test_a_bad_step_is_skipped_and_its_samples_are_kept(run, same, tmp_path, plugin, how):
    changes = (
        "steps=3",
        "divergence=sick",
        "divergence.at=[2]",
        f"divergence.how={how}",
        "samples.every=0",
        "checkpoint.keep=3",
    )
    folder = run(tmp_path / "run", *changes, plugins=[plugin])
    metrics = folder.lines("metrics.jsonl")
    assert [line["train/applied"] for line in metrics] == [1.0, 0.0, 1.0]
    assert [line["train/skipped"] for line in metrics] == [0.0, 1.0, 0.0]
    assert metrics[1]["train/grad_norm"] is None
    assert (metrics[1]["train/loss"] is None) == (how != "gradient")
    assert list(folder.sampled()) == ["step-000002"]
    assert same(folder.student(1), folder.student(2))
    assert not same(folder.student(2), folder.student(3))
    assert all(tensor.isfinite().all() for tensor in folder.weights().values())


def test_several_bad_steps_in_a_row_stop_the_run_with_the_reason(tmp_path, tiny, plugin, capsys):
    changes = ["steps=9", "divergence=sick", "divergence.at=[2,3,4,5]", "optimizer.max_bad_steps=2", "samples.every=0"]
    with pytest.raises(SystemExit) as stopped:
        main(["run", "rosd", *tiny, *changes, "--plugin", str(plugin), "--out", str(tmp_path), "--name", "run", "--quiet"])
    error = capsys.readouterr().err
    assert stopped.value.code == 2
    assert "error: 2 updates in a row were skipped because the loss or its gradient was NaN or infinite" in error
    assert "Traceback" not in error
    assert {path.name for path in (tmp_path / "run/samples").iterdir()} == {"step-000002.jsonl", "step-000003.jsonl"}
    assert {path.name for path in (tmp_path / "run/checkpoints").iterdir()} == {"step-000001", "step-000002"}
    assert not (tmp_path / "run/model").exists()


def test_bad_steps_between_good_ones_do_not_stop_a_run(run, tmp_path, plugin):
    changes = ("steps=5", "divergence=sick", "divergence.at=[2,4]", "optimizer.max_bad_steps=2")
    folder = run(tmp_path / "run", *changes, plugins=[plugin])
    assert [line["train/applied"] for line in folder.lines("metrics.jsonl")] == [1.0, 0.0, 1.0, 0.0, 1.0]
    assert not math.isnan(folder.lines("metrics.jsonl")[4]["train/loss"])


def test_bad_steps_are_counted_across_a_resume(run, tmp_path, plugin):
    changes = ("divergence=sick", "divergence.at=[2,3]", "optimizer.max_bad_steps=2")
    run(tmp_path / "run", "steps=2", *changes, plugins=[plugin])
    with pytest.raises(RunError, match="2 updates in a row"):
        run(tmp_path / "run", "steps=4", *changes, plugins=[plugin], resume=True)
