"""Runs that end while their engine starts: what `--name` and `--resume` say afterwards agrees."""

from __future__ import annotations

import pytest

from rosd_kit.components.rollouts.transformers import TransformersEngine
from rosd_kit.errors import EngineError, UserInterrupt


@pytest.fixture
def start_fails(monkeypatch):
    """Return a function that makes the engine leave a file and raise an error when it starts, the first time."""

    def fail(error, name):
        start = TransformersEngine.start

        def starts(self, student, site):
            monkeypatch.setattr(TransformersEngine, "start", start)
            if name:
                (site.folder / name).write_text("started")
            raise error

        monkeypatch.setattr(TransformersEngine, "start", starts)

    return fail


class Killed(UserInterrupt):
    """Stands for a kill: no component is blamed for it, and nothing cleans up after it."""


def test_a_run_that_is_killed_while_its_server_starts_can_be_resumed(tmp_path, run, start_fails, same):
    start_fails(Killed(), "sglang.log")
    with pytest.raises(Killed):
        run(tmp_path / "killed", "steps=1")
    assert (tmp_path / "killed/recipe.yaml").is_file() and not (tmp_path / "killed/metrics.jsonl").exists()
    resumed = run(tmp_path / "killed", "steps=1", resume=True)
    assert same(resumed.weights(), run(tmp_path / "whole", "steps=1").weights())


@pytest.mark.parametrize(("left", "is_kept"), [("sglang.log", True), (None, False)])
def test_a_name_is_free_again_if_the_engine_cannot_start_and_left_nothing(tmp_path, run, start_fails, left, is_kept):
    start_fails(EngineError("no server there"), left)
    with pytest.raises(EngineError):
        run(tmp_path / "failed", "steps=1")
    assert (tmp_path / "failed/recipe.yaml").is_file() == is_kept
    assert run(tmp_path / "failed", "steps=1", resume=is_kept).lines("metrics.jsonl")[-1]["step"] == 1
