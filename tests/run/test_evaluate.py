"""`rosd-kit eval`: which weights it measures, what it reports, and what it refuses."""

from __future__ import annotations

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from rosd_kit.cli import main
from rosd_kit.files import read_json_lines

SMALL = ("evaluation.problems=2", "evaluation.samples=2", "sampling.max_new_tokens=24")
RUN = (*SMALL, "evaluation.every=0", "problems_per_step=4", "group_size=4", "--quiet")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run of two steps."""
    out = tmp_path_factory.mktemp("runs")
    with pytest.raises(SystemExit) as end:
        main(["run", "grpo", "steps=2", "optimizer.lr=0.1", *RUN, "--out", str(out), "--name", "two"])
    assert not end.value.code
    [folder] = out.iterdir()
    return folder


@pytest.fixture
def measure(capsys):
    """Call `rosd-kit eval` and return its exit code, output and errors."""

    def call(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(["eval", *words])
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return call


def event(out: str) -> dict:
    [line] = out.splitlines()
    return json.loads(line)


def test_eval_measures_the_newest_checkpoint_with_the_runs_own_recipe(measure, trained):
    code, out, _ = measure(str(trained), "--json")
    told = event(out)
    last = list(read_json_lines(trained / "evaluations.jsonl"))[-1]
    assert code == 0
    assert (told["event"], told["model"], told["step"]) == ("evaluation", str(trained), 2)
    assert told["results"] == last["results"]


def test_eval_measures_stopped_runs_and_the_model_of_runs_without_checkpoint(measure, trained, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    whole = event(measure(str(folder), "--json")[1])
    shutil.rmtree(folder / "model")
    assert event(measure(str(folder), "--json")[1]) == whole
    shutil.copytree(trained / "model", folder / "model")
    shutil.rmtree(folder / "checkpoints")
    exported = event(measure(str(folder), "--json")[1])
    assert exported["step"] is None and exported["results"] == whole["results"]
    shutil.rmtree(folder / "model")
    code, _, errors = measure(str(folder))
    assert code == 2 and "neither a checkpoint nor a model yet" in errors and "--resume" in errors


def test_eval_uses_the_weights_of_the_checkpoint(measure, trained, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    shutil.rmtree(folder / "checkpoints")
    weights = load_file(folder / "model/model.safetensors")
    save_file({name: tensor * 0 for name, tensor in weights.items()}, folder / "model/model.safetensors", {"format": "pt"})
    silenced = event(measure(str(folder), "--json")[1])["results"]
    assert [result["mean"] for result in silenced] == [0.0] * len(silenced)


def test_eval_measures_a_model_with_a_recipe_also_at_an_odd_path(measure, trained, tmp_path):
    odd = tmp_path / "a: model #2 ${here}"
    shutil.copytree(trained / "model", odd)
    code, out, _ = measure(str(odd), *SMALL)
    lines = out.splitlines()
    assert code == 0
    assert "".join(lines[: lines.index(next(line for line in lines if line.startswith("suite")))]) == str(odd)
    assert "sums (trained)" in out
    assert lines[-1].startswith("mean@2 over 2 problems per suite, with 95 % intervals")


def test_quiet_prints_only_the_table(measure):
    _, out, _ = measure("micro", *SMALL, "--quiet")
    assert out.startswith("suite")


@pytest.mark.parametrize("where", ["{tmp}", "{tmp}/missing", "./missing", "a/b/c"])
def test_a_path_that_is_neither_run_nor_model_is_refused_without_asking_the_hub(measure, tmp_path, monkeypatch, where):
    monkeypatch.chdir(tmp_path)
    subject = where.format(tmp=tmp_path)
    code, _, errors = measure(subject)
    assert code == 2
    assert errors.startswith("error: eval: ") and subject in errors and len(errors.splitlines()) == 1


def test_eval_without_problems_is_an_error(measure):
    code, out, _ = measure("micro", "evaluation.problems=0")
    assert code == 0 and "nothing was evaluated: evaluation.problems is 0" in out


def test_two_models_are_compared_on_the_same_problems_and_the_result_is_written(measure, trained, tmp_path):
    code, out, _ = measure(str(trained), "--against", "micro", "--json", "--out", str(tmp_path / "found.json"))
    first, second, comparison = map(json.loads, out.splitlines())
    assert code == 0
    assert (first["model"], second["model"], comparison["event"]) == (str(trained), "micro", "comparison")
    for after, before, change in zip(first["results"], second["results"], comparison["comparisons"], strict=True):
        assert after["scores"].keys() == before["scores"].keys()
        assert change["difference"]["mean"] == pytest.approx(after["mean"] - before["mean"])
    written = json.loads((tmp_path / "found.json").read_text())
    assert (written["model"], written["step"], written["results"]) == (str(trained), 2, first["results"])
    assert (written["against"]["model"], written["against"]["results"]) == ("micro", second["results"])
    assert written["comparisons"] == comparison["comparisons"]


def test_a_comparison_is_printed_as_a_table(measure):
    _, out, _ = measure("micro", "--against", "micro", *SMALL)
    assert "micro against micro" in out
    assert "all suites" in out and "+0.0 (" in out and " *\n" not in out
    assert "worst-case bound" in out.splitlines()[-1]


def test_an_unknown_name_is_our_own_error(measure, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    code, _, errors = measure("runs-rosd-1", *SMALL)
    assert code == 2 and errors.startswith("error: eval: 'runs-rosd-1' is not a folder here, and the hub has no such model: ")


def test_an_output_file_that_cannot_be_written_is_an_error_before_measuring(measure, tmp_path):
    code, out, errors = measure("micro", *SMALL, "--out", str(tmp_path / "no/such/file.json"))
    assert code == 2 and not out and "eval --out" in errors and "Choose another file" in errors


def test_eval_writes_logs_of_every_response_for_inspect(measure, trained, tmp_path):
    code, out, _ = measure(str(trained), "--json", "--inspect", str(tmp_path / "new" / "logs"))
    assert code == 0
    results = {result["suite"]: result for result in event(out)["results"]}
    logs = [json.loads(file.read_text()) for file in (tmp_path / "new" / "logs").iterdir()]
    assert {log["eval"]["task"] for log in logs} == results.keys()
    for log in logs:
        result, samples = results[log["eval"]["task"]], log["samples"]
        right = [sample["scores"]["micro"]["value"] == "C" for sample in samples]
        assert log["results"]["scores"][0]["metrics"]["mean@2"]["value"] == sum(right) / len(right) == result["mean"]
        assert [(sample["id"], sample["epoch"]) for sample in samples] == [(id, k) for id in result["scores"] for k in (1, 2)]
        assert sum(sample["output"]["choices"][0]["stop_reason"] == "max_tokens" for sample in samples) == result["truncated"]
        assert all(
            sample["messages"][-1]["content"] == sample["output"]["choices"][0]["message"]["content"] for sample in samples
        )


def test_logs_for_inspect_are_read_by_inspect(measure, trained, tmp_path):
    log = pytest.importorskip("inspect_ai.log", reason="needs inspect-ai, which reads the logs")
    measure(str(trained), "--quiet", "--inspect", str(tmp_path))
    listed = log.list_eval_logs(str(tmp_path))
    # as the names of files spell them
    assert {one.task for one in listed} == {"sums", "sums-long", "coins", "clock", "colours"}
    for one in listed:
        read = log.read_eval_log(one)
        assert read.status == "success" and len(read.samples) == 4
        assert read.samples[0].output.completion == read.samples[0].messages[-1].text


def test_a_folder_for_logs_that_cannot_be_made_is_refused_before_measuring(measure, trained, tmp_path):
    (tmp_path / "file").touch()
    code, out, error = measure(str(trained), "--inspect", str(tmp_path / "file"))
    assert (code, out) == (2, "")
    assert "eval --inspect" in error and "Choose another folder" in error
