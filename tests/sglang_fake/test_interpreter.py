"""What `rosd-kit doctor` says about the interpreter of SGLang servers, by scripts that answer as interpreters would."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rosd_kit.cli import main
from rosd_kit.serving.interpreter import installed
from rosd_kit.sglang.launch import missing_for_launch
from rosd_kit.sglang.options import EngineOptions

Interpreter = Callable[..., str]


@pytest.fixture
def interpreter(tmp_path: Path) -> Interpreter:
    """Write a program that answers any question with these versions, and return its path."""

    def write(answer: str | None = None, code: int = 0, **versions: str) -> str:
        file = tmp_path / f"python-{len(list(tmp_path.iterdir()))}"
        said = json.dumps(versions) if answer is None else answer
        file.write_text(f"#!/bin/sh\necho '{said}'\necho broken >&2\nexit {code}\n")
        file.chmod(0o755)
        return str(file)

    return write


@pytest.mark.parametrize(
    ("versions", "options", "on_gpu", "faults"),
    [
        ({"sglang": "0.5.21", "torch": "2.13.0+cu130"}, {"sync": "tensor"}, True, []),
        ({"sglang": "0.5.21", "torch": "2.13.1"}, {"sync": "tensor"}, True, []),
        ({"torch": "2.13.0"}, {}, True, ["has no SGLang; name one that has it with rollout.launch.python"]),
        ({"sglang": "0.4.9", "torch": "2.13.0"}, {}, False, ["has SGLang 0.4.9; this client was tested with 0.5."]),
        ({"sglang": "0.4.9", "torch": "2.13.0"}, {"any_version": True}, False, []),
        ({"sglang": "0.5.21", "torch": "2.13.0+cpu"}, {}, True, ["has torch 2.13.0+cpu, which knows no GPU"]),
        ({"sglang": "0.5.21", "torch": "2.13.0+cpu"}, {}, False, []),
        ({"sglang": "0.5.21", "torch": "2.11.0"}, {"sync": "tensor"}, True, ["has torch 2.11.0, the trainer 2.13.0+cu130;"]),
        ({"sglang": "0.5.21", "torch": "2.11.0"}, {"sync": "disk"}, True, []),
    ],
)  # fmt: skip
def test_what_an_interpreter_lacks_is_named_with_its_remedy(interpreter, monkeypatch, versions, options, on_gpu, faults):
    monkeypatch.setattr("torch.__version__", "2.13.0+cu130")
    python = interpreter(**versions)
    found = missing_for_launch(EngineOptions(launch={"python": python}, **options), on_gpu=on_gpu)
    assert len(found) == len(faults)
    for fault, words in zip(found, faults, strict=True):
        assert fault.startswith(python) and words in fault


def test_an_interpreter_that_cannot_be_asked_is_named(interpreter, tmp_path):
    assert installed("sglang", interpreter(code=3), {}) == "cannot be run: broken"
    assert str(installed("sglang", str(tmp_path / "none"), {})).startswith("cannot be run: ")
    (fault,) = missing_for_launch(EngineOptions(launch={"python": interpreter(code=3)}), on_gpu=True)
    assert "cannot be run: broken; name one that has it with rollout.launch.python or ROSD_KIT_SGLANG_PYTHON" in fault


def test_doctor_asks_the_interpreter_that_the_environment_names(interpreter, monkeypatch, capsys):
    words = ["doctor", "rosd", "rollout=sglang", "model.device=cpu"]
    monkeypatch.setenv("ROSD_KIT_SGLANG_PYTHON", interpreter(torch="2.13.0"))
    with pytest.raises(SystemExit):
        main(words)
    assert "has no SGLang; name one that has it" in capsys.readouterr().out
    monkeypatch.setenv("ROSD_KIT_SGLANG_PYTHON", interpreter(sglang="0.5.21", torch="2.13.0"))
    with pytest.raises(SystemExit):
        main(words)
    out = capsys.readouterr().out
    assert "rosd with micro: ready" in out and "waking the servers" in out
