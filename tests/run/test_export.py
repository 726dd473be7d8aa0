"""`rosd-kit export`: the model of any checkpoint."""

from __future__ import annotations

import re

import pytest
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from rosd_kit.cli import main
from rosd_kit.run import export as export_module


@pytest.fixture(scope="module")
def trained(run, tmp_path_factory):
    return run(tmp_path_factory.mktemp("export") / "run", "steps=2", "checkpoint.every=1").path


def weights(folder):
    return load_file(folder / "model.safetensors")


def test_the_newest_checkpoint_is_the_exported_model(trained, same, tmp_path, capsys):
    main_ends(["export", str(trained), str(tmp_path / "deep/model")])
    assert capsys.readouterr().out == f"{trained / 'checkpoints/step-000002'} -> {tmp_path / 'deep/model'}\n"
    assert same(weights(tmp_path / "deep/model"), weights(trained / "model"))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["model"]


def test_an_earlier_step_loads_in_transformers_and_its_card_says_the_step(trained, same, tmp_path):
    main_ends(["export", str(trained), str(tmp_path / "model"), "--step", "1"])
    assert not same(weights(tmp_path / "model"), weights(trained / "model"))
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert model.config.vocab_size == len(AutoTokenizer.from_pretrained(tmp_path / "model"))
    assert "| steps | 1 of " in (tmp_path / "model/README.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{run}", "{new}", "--step", "7"], r"export --step: 7 is not saved\. Allowed: 1, 2\."),
        (["{run}", "{run}"], r"export: '.*' exists already\. Choose another folder"),
        (["{run}/model", "{new}"], r"export: '.*model' holds no recipe\.yaml\. Give a run's folder"),
    ],
)
def test_what_cannot_be_exported_is_said(arguments, message, trained, tmp_path, capsys):
    filled = [argument.format(run=trained, new=tmp_path / "new") for argument in arguments]
    main_ends(["export", *filled], code=2)
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "new").exists()


def test_a_failed_export_leaves_nothing_behind(trained, tmp_path, monkeypatch, capsys):
    def full(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export_module, "write_model", full)
    main_ends(["export", str(trained), str(tmp_path / "model")], code=2)
    assert "cannot be written: the disk is full" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def main_ends(arguments, code=0):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert (ended.value.code or 0) == code
