"""Nothing of one run gets into another: checkpoints, recipes, models, data, records."""

from __future__ import annotations

import json
import shutil

import pytest

from rosd_kit.errors import RunError
from rosd_kit.training import checkpoint as checkpoints


def rewritten(checkpoint, change):
    """Change the state of a checkpoint and sign it again, as someone does who wants to."""
    state = json.loads((checkpoint / "state.json").read_text())
    change(state)
    (checkpoint / "state.json").write_text(json.dumps(state))
    manifest = json.loads((checkpoint / "manifest.json").read_text())
    manifest["state.json"] = checkpoints.file_digest(checkpoint / "state.json")
    (checkpoint / "manifest.json").write_text(json.dumps(manifest))


@pytest.fixture(scope="module")
def three_steps(run, tmp_path_factory):
    return run(tmp_path_factory.mktemp("runs") / "three_steps", "steps=3").path


@pytest.fixture
def copy(three_steps, tmp_path):
    return shutil.copytree(three_steps, tmp_path / "copy")


def test_a_checkpoint_of_another_run_with_the_same_recipe_is_refused(run, three_steps, tmp_path):
    other = run(tmp_path / "other", "steps=1").path
    shutil.copytree(three_steps / "checkpoints/step-000003", other / "checkpoints/step-000003")
    with pytest.raises(RunError, match=r"step-000003: belongs to run \w{16}, and this folder holds run \w{16}\. Move it back"):
        run(other, "steps=4", resume=True)


def test_a_checkpoint_of_another_recipe_is_refused_with_the_field(run, three_steps, tmp_path):
    other = run(tmp_path / "other", "steps=1", "seed=5").path
    shutil.copytree(three_steps / "checkpoints/step-000003", other / "checkpoints/step-000003")
    with pytest.raises(RunError, match=r"other/recipe\.yaml was edited after step-000003 was saved: seed \(\d+ -> 5\)"):
        run(other, "steps=4", "seed=5", resume=True)


def test_an_edited_recipe_is_not_compared_with_itself(run, copy):
    file = copy / "recipe.yaml"
    file.write_text(file.read_text().replace("lr: 0.0003", "lr: 0.01"))
    with pytest.raises(RunError, match=r"recipe\.yaml was edited .*: optimizer\.lr \(0\.0003 -> 0\.01\)\. Only steps, "):
        run(copy, "steps=4", "optimizer.lr=0.01", resume=True)


def test_what_may_change_may_be_edited_in_the_folder(run, copy):
    file = copy / "recipe.yaml"
    file.write_text(file.read_text().replace("\nsteps: 3\n", "\nsteps: 4\n"))
    assert [line["step"] for line in run(copy, "steps=4", resume=True).lines("metrics.jsonl")] == [1, 2, 3, 4]


def test_other_weights_at_the_same_path_are_refused(run, three_steps, tmp_path):
    model = shutil.copytree(three_steps / "model", tmp_path / "model")
    path = run(tmp_path / "run", "steps=1", f"model.path={model}").path
    changed = run(tmp_path / "other", "steps=1", "optimizer.lr=0.01").path / "model/model.safetensors"
    shutil.copy(changed, model)
    with pytest.raises(RunError, match=r"model: this run began with weights of digest \w+, and model\.path now holds \w+\."):
        run(path, "steps=2", f"model.path={model}", resume=True)


def test_a_checkpoint_from_before_identities_resumes_with_a_warning(warned, copy):
    for path in (copy / "checkpoints").iterdir():
        rewritten(path, lambda state: state.pop("identity"))
    [warning] = warned(copy, "steps=4", resume=True)
    assert "step-000003: it was saved by a version that did not record the run, recipe, model and data" in warning


@pytest.mark.parametrize("content", ["text", [], {}, {"run": "0"}], ids=str)
def test_a_state_that_was_signed_again_with_another_identity_is_refused(run, copy, content):
    for path in (copy / "checkpoints").iterdir():
        rewritten(path, lambda state: state.update(identity=content))
    with pytest.raises(RunError, match=r"step-000003/state\.json: what it says about its run was changed"):
        run(copy, "steps=4", resume=True)


def test_without_its_environment_a_run_goes_by_its_newest_checkpoint(run, copy):
    (copy / "environment.json").unlink()
    run(copy, "steps=4", resume=True)
    run(copy, "steps=5", resume=True)
    identities = {json.loads((path / "state.json").read_text())["identity"]["run"] for path in (copy / "checkpoints").iterdir()}
    assert len(identities) == 1
    assert json.loads((copy / "environment.json").read_text())["run"] in identities


ROWS = [{"q": f"{i} + 1 =", "a": str(i + 1)} for i in range(20)]
DATA = (
    *("task=dataset", "task.prompt='{q}'", "task.answer='{a}'", "task.solution='{a}'", "task.held_out=0", "verifier=exact"),
    *("reflector=none", "localizer=full", "context=solution"),
)


@pytest.fixture
def data(tmp_path):
    def write(rows):
        file = tmp_path / "rows.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return f"task.path={file}"

    return write


@pytest.mark.parametrize(
    "rows", [[{**row, "a": "0"} for row in ROWS], ROWS[:7], [*ROWS, ROWS[0]]], ids=["answers", "fewer", "more"]
)
def test_changed_data_is_refused_on_resume(run, tmp_path, data, rows):
    path = data(ROWS)
    run(tmp_path / "run", "steps=1", *DATA, path)
    data(rows)
    with pytest.raises(RunError, match=r"task: data files are not those .*rows\.jsonl has changed\. Put the former files back"):
        run(tmp_path / "run", "steps=2", *DATA, path, resume=True)
    data(ROWS)
    assert len(run(tmp_path / "run", "steps=2", *DATA, path, resume=True).lines("metrics.jsonl")) == 2


def test_one_more_file_of_a_pattern_is_named(run, tmp_path, data):
    data(ROWS)
    run(tmp_path / "run", "steps=1", *DATA, f"task.path={tmp_path}/*.jsonl")
    shutil.copy(tmp_path / "rows.jsonl", tmp_path / "rows2.jsonl")
    with pytest.raises(RunError, match=r"rows2\.jsonl is new"):
        run(tmp_path / "run", "steps=2", *DATA, f"task.path={tmp_path}/*.jsonl", resume=True)


def test_the_data_of_a_suite_counts_too(run, tmp_path, data):
    path = data(ROWS)
    suite = shutil.copy(tmp_path / "rows.jsonl", tmp_path / "suite.jsonl")
    changes = (*DATA, path, f"task.suites.mine.path={suite}")
    run(tmp_path / "run", "steps=1", *changes)
    suite.write_text(suite.read_text().replace('"a": "1"', '"a": "2"'))
    with pytest.raises(RunError, match=r"suite\.jsonl has changed"):
        run(tmp_path / "run", "steps=2", *changes, resume=True)


DAMAGE = {
    "flipped bits": (lambda lines: [lines[0], bytes([lines[1][0] ^ 0x40]) + lines[1][1:], lines[2]], "line 2: Expecting"),
    "NUL": (lambda lines: [b"\0" * 40, *lines[1:]], "line 1: "),
    "no UTF-8": (lambda lines: [lines[0], lines[1][:9] + b"\xff" + lines[1][9:], lines[2]], "line 2: "),
    "no step": (lambda lines: [b'{"train/loss": 1.0}', *lines[1:]], "line 1: it has no step"),
    "a step in words": (lambda lines: [b'{"step": "one"}', *lines[1:]], "line 1: its step is 'one'"),
    "a list": (lambda lines: [lines[0], b"[1, 2]", lines[2]], "line 2: it is not an object"),
    "deep": (lambda lines: [lines[0], b"[" * 200_000, lines[2]], "line 2: it is nested too deep"),
    "text for a number": (lambda lines: [lines[0], b'{"step": 2, "train/loss": "low"}', lines[2]], "line 2: train/loss is no"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_line_is_named_and_set_aside(warned, same, open_run, three_steps, copy, damage):
    file = copy / "metrics.jsonl"
    change, message = DAMAGE[damage]
    lines = change(file.read_bytes().splitlines())
    file.write_bytes(b"".join(line + b"\n" for line in lines))
    warnings = warned(copy, "steps=3", resume=True)
    assert any(f"{file}: damaged, {message}" in text and "Set aside in metrics.jsonl.damaged" in text for text in warnings)
    assert any("the records of 1 of 3 steps are missing" in text for text in warnings)
    assert (copy / "metrics.jsonl.damaged").read_bytes().rstrip(b"\n") in lines
    assert [line["step"] for line in open_run(copy).lines("metrics.jsonl")] in ([1, 3], [2, 3])
    assert same(open_run(copy).weights(), open_run(three_steps).weights())
    assert not any("damaged, line" in text for text in warned(copy, "steps=4", resume=True))


@pytest.mark.parametrize(("kept", "message"), [(0, "3 of 3 steps are missing (1-3)"), (1, "2 of 3 steps are missing (2-3)")])
def test_an_incomplete_or_missing_record_is_reported(warned, copy, kept, message):
    file = copy / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.unlink()
    if kept:
        file.write_text("".join(lines[:kept]) + lines[kept][:30])
    warnings = warned(copy, "steps=4", resume=True)
    assert any(f"{file}: the records of {message}" in text for text in warnings)
    assert [json.loads(line)["step"] for line in file.read_text().splitlines()] == [*range(1, kept + 1), 4]


def test_a_missing_first_evaluation_is_reported(warned, copy):
    (copy / "evaluations.jsonl").write_bytes(b'{"step": 0, "results": [{"suite": 1}]}\n')
    warnings = warned(copy, "steps=3", resume=True)
    assert any("evaluations.jsonl: damaged, line 1" in text for text in warnings)
    assert any("evaluations.jsonl: the evaluation before the first step is missing" in text for text in warnings)
