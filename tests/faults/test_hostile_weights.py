"""Pickles by another door: indexes, configs, links and adapters that name what must not be read."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rosd_kit.errors import RunError
from rosd_kit.model.loading import find_model, load_model, load_tokenizer
from rosd_kit.model.lora import resolve_adapter
from rosd_kit.settings import LoraSettings, ModelSettings
from rosd_kit.training.checkpoint import load_checkpoint
from rosd_kit.training.checkpoint_writer import save_checkpoint
from tests.model.tiny_models import save


class Evil:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def folder(tmp_path):
    return save(tmp_path / "model")


@pytest.fixture(autouse=True)
def nothing_is_unpickled(monkeypatch):
    """Fail at once when anything asks torch or pickle to read."""
    import pickle

    def refuse(*_, **__):
        raise AssertionError("a pickle was opened")

    for module, name in ((torch, "load"), (pickle, "load"), (pickle, "loads")):
        monkeypatch.setattr(module, name, refuse)


def load(folder: Path, **options) -> object:
    settings = ModelSettings(path=str(folder), device="cpu", **options)
    return load_model(find_model(settings), settings, 0)


def index(folder: Path, name: object, *, file: str = "model.safetensors.index.json") -> None:
    """Let an index name `name` for every tensor of the model, and take the whole file away."""
    whole = folder / "model.safetensors"
    tensors = load_file(whole)
    whole.rename(folder / "decoy.safetensors")
    content = {"metadata": {"total_size": 1}, "weight_map": dict.fromkeys(tensors, name)}
    (folder / file).write_text(json.dumps(content))


NAMES = [
    ("weights.bin", "does not end in .safetensors"),
    ("pytorch_model.bin", "does not end in .safetensors"),
    ("weights.pt", "does not end in .safetensors"),
    ("weights.safetensors.bin", "does not end in .safetensors"),
    ("weights", "does not end in .safetensors"),
    ("weights.SAFETENSORS", "does not end in .safetensors"),
    ("../../etc/passwd", "is not the plain name of a file"),
    ("/etc/passwd", "is not the plain name of a file"),
    ("../model.safetensors", "is not the plain name of a file"),
    ("sub/model.safetensors", "is not the plain name of a file"),
    ("./decoy.safetensors", "is not the plain name of a file"),
    ("..\\model.safetensors", "is not the plain name of a file"),
    ("..", "is not the plain name of a file"),
    (".hidden.safetensors", "is not the plain name of a file"),
    ("a\x00.safetensors", "is not the plain name of a file"),
    ("", "does not end in .safetensors"),
    (None, "is not the plain name of a file"),
    (["decoy.safetensors"], "is not the plain name of a file"),
    ("absent.safetensors", "names 'absent.safetensors', which is not there"),
]


@pytest.mark.parametrize("pickles", [False, True])
@pytest.mark.parametrize(("name", "message"), NAMES, ids=[repr(name) for name, _ in NAMES])
def test_an_index_names_only_safetensors_of_its_own_folder(folder, tmp_path, name, message, pickles):
    index(folder, name)
    for evil in ("weights.bin", "pytorch_model.bin", "weights.pt", "weights", "weights.safetensors.bin"):
        torch.save({"lm_head.weight": Evil(tmp_path / "ran")}, folder / evil)
    with pytest.raises(RunError, match=message) as caught:
        load(folder, pickle_weights=pickles)
    assert "model.safetensors.index.json" in str(caught.value) and not (tmp_path / "ran").exists()


def test_an_index_of_plain_safetensors_is_read(folder):
    before = {name: value.clone() for name, value in load(folder).state_dict().items()}
    index(folder, "decoy.safetensors")
    after = load(folder).state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("content", ["[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', "[" * 60_000, "\x00"])
def test_an_invalid_index_is_named(folder, content):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(content)
    with pytest.raises(RunError, match=r"model\.path: .*model\.safetensors\.index\.json"):
        load(folder)


def test_a_link_out_of_the_folder_is_refused(folder, tmp_path):
    (folder / "model.safetensors").rename(tmp_path / "elsewhere.safetensors")
    (folder / "model.safetensors").symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(RunError, match=r"'model\.safetensors' is a link out of .*elsewhere\.safetensors"):
        load(folder)
    (folder / "model.safetensors").unlink()
    (tmp_path / "elsewhere.safetensors").rename(folder / "beside.safetensors")
    (folder / "model.safetensors").symlink_to("beside.safetensors")
    assert load(folder)


def test_the_links_of_the_hubs_cache_are_followed(folder, tmp_path):
    cache = tmp_path / "models--a--b"
    (cache / "blobs").mkdir(parents=True)
    (cache / "snapshots").mkdir()
    folder.rename(cache / "snapshots" / "abc")
    snapshot = cache / "snapshots" / "abc"
    (snapshot / "model.safetensors").rename(cache / "blobs" / "0123")
    (snapshot / "model.safetensors").symlink_to("../../blobs/0123")
    assert load(snapshot)


@pytest.mark.parametrize(
    "weights", ["adapter_model.bin", "../other/model.safetensors", "weights.bin", "sub/model.safetensors.index.json", 3]
)
@pytest.mark.parametrize("file", ["config.json", "config.1.0.0.json"])
def test_a_config_names_only_safetensors_of_its_own_folder(folder, tmp_path, weights, file):
    config = json.loads((folder / "config.json").read_text())
    (folder / file).write_text(json.dumps({**config, "transformers_weights": weights}))
    if file != "config.json":
        (folder / "config.json").write_text(json.dumps({**config, "configuration_files": [file]}))
    torch.save({"lm_head.weight": Evil(tmp_path / "ran")}, folder / "adapter_model.bin")
    with pytest.raises(RunError, match="transformers_weights"):
        load(folder)
    assert not (tmp_path / "ran").exists()


def test_a_config_elsewhere_is_not_read(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.1.0.0.json").write_text(json.dumps({**config, "transformers_weights": "adapter_model.bin"}))
    (folder / "config.json").write_text(json.dumps({**config, "configuration_files": ["../config.1.0.0.json"]}))
    with pytest.raises(RunError, match="configuration_files"):
        load(folder)


def test_an_adapter_beside_a_model_is_not_read(folder, tmp_path):
    config = {"peft_type": "LORA", "base_model_name_or_path": str(tmp_path / "other"), "r": 2, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    torch.save({"x": Evil(tmp_path / "ran")}, folder / "adapter_model.bin")
    with pytest.raises(RunError, match=r"holds an adapter \(adapter_config\.json\) beside the model"):
        load(folder)
    assert not (tmp_path / "ran").exists()


def test_an_adapter_is_read_from_safetensors_of_its_own_folder_only(tmp_path):
    pytest.importorskip("peft")
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, "target_modules": ["q_proj"]}))
    torch.save({"x": Evil(tmp_path / "ran")}, adapter / "adapter_model.bin")
    with pytest.raises(RunError, match=r"model\.lora\.path: .* holds no adapter_model\.safetensors"):
        resolve_adapter(LoraSettings(path=str(adapter)))
    save_file({"x": torch.zeros(1)}, tmp_path / "elsewhere.safetensors")
    (adapter / "adapter_model.safetensors").symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(RunError, match=r"model\.lora\.path: .* is a link out of"):
        resolve_adapter(LoraSettings(path=str(adapter)))


@pytest.mark.parametrize("name", ["../other.gguf", "/etc/passwd", "sub/x.gguf", "weights.bin", "x.gguf/../../y.gguf"])
def test_a_gguf_file_is_a_plain_name_in_the_models_folder(folder, tmp_path, name):
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    with pytest.raises(RunError, match=r"model\.gguf: .*(plain name|does not end in \.gguf)"):
        load(folder, gguf=name)


def test_a_checkpoint_reads_files_of_its_own_folder_only(tmp_path, monkeypatch):
    saved = save_checkpoint(tmp_path / "checkpoints", 1, {"student": {"x": torch.zeros(2)}}, {}, keep=1)
    manifest = json.loads((saved / "manifest.json").read_text())
    (tmp_path / "checkpoints" / "outside.safetensors").write_bytes((saved / "student.safetensors").read_bytes())
    moved = {"../outside.safetensors" if name == "student.safetensors" else name: hash for name, hash in manifest.items()}
    (saved / "manifest.json").write_text(json.dumps(moved))
    with pytest.raises(RunError, match=r"outside\.safetensors: the checkpoint is damaged: it is not a file of this"):
        load_checkpoint(saved)
    (saved / "manifest.json").write_text(json.dumps(manifest))
    (saved / "student.safetensors").unlink()
    (saved / "student.safetensors").symlink_to("../outside.safetensors")
    with pytest.raises(RunError, match=r"student\.safetensors: the checkpoint is damaged: it is not a file of this"):
        load_checkpoint(saved)


def test_a_tokenizer_brings_no_code(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path / "cache"))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", "own.Own"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    settings = ModelSettings(path=str(folder), device="cpu")
    with suppress(Exception):  # whether it is refused or read without its code
        load_tokenizer(find_model(settings), settings)
    assert not (tmp_path / "ran").exists()


def test_no_module_of_the_kit_asks_torch_to_unpickle():
    """Every torch.load names weights_only=True, and pickle itself is read only from a parent process of our own."""
    import ast

    import rosd_kit

    root = Path(rosd_kit.__file__).parent
    unpickling = ("torch.load", "pickle.load", "pickle.loads", "pickle.Unpickler", "np.load", "joblib.load", "dill.loads")
    readers = {}
    for file in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                name = f"{node.value.id}.{node.attr}"
                if name in unpickling:
                    readers.setdefault(file.relative_to(root).as_posix(), set()).add(name)
    assert readers == {
        "sandbox/child.py": {"pickle.loads"},  # what the parent process sends
        "sandbox/inner.py": {"pickle.loads"},
        "testing/checks/common.py": {"pickle.loads"},  # what it has pickled itself
    }
