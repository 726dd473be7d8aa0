"""Unexpected files in the folders of runs and models: strays beside checkpoints, deep JSON, values of the wrong type."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from rosd_kit.errors import RunError
from rosd_kit.files import read_json_object
from rosd_kit.model.loading import find_model, load_model
from rosd_kit.model.micro.model import base_path
from rosd_kit.run.folder import RunFolder
from rosd_kit.settings import ModelSettings
from rosd_kit.sweep.baseline import SharedBaseline
from rosd_kit.training.checkpoint import list_checkpoints, load_checkpoint
from rosd_kit.training.checkpoint_writer import save_checkpoint

DEEP = "[" * 60_000 + "]" * 60_000


def test_strays_beside_checkpoints_stay_and_do_not_matter(tmp_path):
    (tmp_path / ".a-b").write_text("mine")
    (tmp_path / ".git-annex").mkdir()
    (tmp_path / ".writing-notes").mkdir()
    (tmp_path / "step-٣").mkdir()
    (tmp_path / ".writing-000001").write_text("a file that a killed process left behind")
    (tmp_path / ".removing-step-000000").mkdir()
    for step in (1, 2, 3):
        save_checkpoint(tmp_path, step, {"student": {"w": torch.ones(step)}}, {}, keep=2)
    kept = {".a-b", ".git-annex", ".writing-notes", "step-٣", "step-000002", "step-000003"}
    assert {path.name for path in tmp_path.iterdir()} == kept
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000002", "step-000003"]
    assert load_checkpoint(tmp_path / "step-000003").tensors["student"]["w"].equal(torch.ones(3))


@pytest.mark.parametrize("content", [DEEP, "[]", "null", '"x"', "{", ""])
def test_a_record_that_is_no_object_counts_as_none(tmp_path, content):
    (tmp_path / "environment.json").write_text(content)
    assert read_json_object(tmp_path / "environment.json") == {}


@pytest.mark.parametrize("content", [DEEP, "[[]]", '[{"mean": {}}]', "{", "7"])
def test_a_damaged_shared_evaluation_is_measured_again(tmp_path, monkeypatch, content):
    monkeypatch.setattr("rosd_kit.sweep.baseline._key", lambda *arguments: "key")
    (tmp_path / "key.json").write_text(content)
    assert SharedBaseline(tmp_path)(None, None, None, lambda: ()) == ()
    assert json.loads((tmp_path / "key.json").read_text()) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_hidden_layers": -1}, "num_hidden_layers in .* is -1. It must be a whole number above 0"),
        ({"num_hidden_layers": 0}, "num_hidden_layers in .* is 0"),
        ({"num_hidden_layers": 1.5}, r"num_hidden_layers in .* is 1\.5"),
        ({"text_config": {"num_hidden_layers": 0}}, "num_hidden_layers in .* is 0"),
        ({"hidden_size": "64"}, "hidden_size in .* is '64'"),
        ({"vocab_size": True}, "vocab_size in .* is True"),
        ({"eos_token_id": "x"}, "eos_token_id in .* is 'x'. It must be a token's id, a list of ids, or null"),
        ({"eos_token_id": [1, "x"]}, r"eos_token_id in .* is \[1, 'x'\]"),
        ({"pad_token_id": 1.5}, r"pad_token_id in .* is 1\.5"),
        ({"bos_token_id": {"id": 1}}, "bos_token_id in .* is {'id': 1}"),
    ],
)
def test_a_model_with_odd_sizes_or_ids_is_refused_by_name(tmp_path, changes, said):
    folder = shutil.copytree(base_path(), tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(RunError, match=said):
        find_model(ModelSettings(path=str(folder)))


def test_a_model_without_layers_is_refused_whatever_its_config_calls_them(tmp_path):
    GPT2LMHeadModel(GPT2Config(n_layer=0, n_embd=8, n_head=2, vocab_size=300)).save_pretrained(tmp_path)
    with pytest.raises(RunError, match="the model has no layers"):
        load_model(tmp_path, ModelSettings(path=str(tmp_path)), seed=0)


@pytest.mark.parametrize(
    ("content", "said"), [(DEEP, "nested too deep"), ("[1]", r"holds \[1\], not an object"), ("{", "Expecting")]
)
def test_a_model_whose_config_is_no_object_is_refused(tmp_path, content, said):
    folder = shutil.copytree(base_path(), tmp_path / "model")
    (folder / "config.json").write_text(content)
    with pytest.raises(RunError, match=said):
        find_model(ModelSettings(path=str(folder)))


def test_what_may_be_named_and_what_may_be_resumed_agree(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x/sglang.log").write_text("started")
    with pytest.raises(RunError, match=r"is not empty and holds no run \(no recipe.yaml\). Choose another --name"):
        RunFolder.create(tmp_path, "x", "rosd")
    with pytest.raises(RunError, match="holds no run"):
        RunFolder.open(tmp_path / "x")
    (tmp_path / "x/recipe.yaml").write_text("name: x")
    with pytest.raises(RunError, match=r"already holds a run.*--resume"):
        RunFolder.create(tmp_path, "x", "rosd")
    RunFolder.open(tmp_path / "x").close()
