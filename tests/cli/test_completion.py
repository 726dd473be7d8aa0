"""The tab key: what bash, and shells that keep `field=value` together, are offered."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from rosd_kit.cli import main
from rosd_kit.recipe.shipped import shipped_names


@pytest.fixture
def offered(tmp_path, monkeypatch, capsys):
    """Return a function that asks for completions of the last word, in a folder with a run, a sweep and a recipe."""
    for name in ("runs/rosd-1/recipe.yaml", "runs/no-run/notes", "sweeps/rosd/sweep.db", "mine.yaml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)

    monkeypatch.setenv("_ROSD_KIT_COMPLETE", "complete_bash")
    monkeypatch.setenv("ROSD_KIT_PLUGINS", "builtin")

    def ask(*words: str) -> list[str]:
        monkeypatch.setenv("COMP_WORDS", "\n".join(["rosd-kit", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        with pytest.raises(SystemExit) as end:
            main([])
        said = capsys.readouterr()
        assert (end.value.code, said.err) == (0, "")
        return said.out.split()

    return ask


def test_recipes_profiles_and_own_files(offered):
    assert offered("run", "ros") == ["rosd", "rosd_soft", "rosd_v2"]
    assert set(offered("show", "")) == {*shipped_names(), "mine.yaml"}
    assert offered("sweep", "r") == ["run", "report", *(name for name in offered("run", "r"))]
    assert offered("run", "rosd", "--profile", "paper") == ["paper-4b", "paper-8b"]


def test_slots_and_their_components(offered):
    assert offered("components", "di") == ["divergence"]
    assert offered("components", "divergence", "") == ["forward_kl", "jsd", "reverse_kl"]


def test_changes_where_the_shell_splits_words_at_the_equals_sign(offered):
    assert offered("run", "rosd", "steps=3", "divergence", "=") == ["forward_kl", "jsd", "reverse_kl"]
    assert offered("run", "rosd", "task", "=", "gs") == ["gsm8k"]
    assert offered("sweep", "rosd", "divergence", "=", "jsd,") == ["jsd,forward_kl", "jsd,reverse_kl"]


def test_changes_where_the_shell_keeps_words_together(offered):
    assert offered("run", "rosd", "divergence=f") == ["divergence=forward_kl"]
    assert offered("run", "rosd", "diver")[-3:] == [f"divergence={name}" for name in ("forward_kl", "jsd", "reverse_kl")]


def test_fields_come_with_the_value_that_the_recipe_has(offered):
    assert offered("run", "rosd", "step") == ["steps=80"]
    assert offered("run", "rosd", "optimizer.l") == ["optimizer.lr=0.0003"]
    assert "optimizer.updates_per_batch=1" in offered("run", "grpo", "optimizer.")
    assert offered("run", "no-such-recipe", "step") == []


def test_folders_of_runs_and_sweeps(offered):
    assert offered("report", "") == ["runs/rosd-1", "sweeps/rosd"]
    assert offered("eval", "runs/") == ["runs/rosd-1"]
    assert offered("run", "--resume", "r") == ["runs/rosd-1"]
    assert offered("sweep", "report", "") == ["sweeps/rosd"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_script_for_bash_completes_in_a_real_one(tmp_path):
    program = tmp_path / "rosd-kit"
    program.write_text(f"#!{sys.executable}\nfrom rosd_kit.cli import main\nmain()\n")
    program.chmod(0o755)
    script = (
        'eval "$(rosd-kit --show-completion bash)"; COMP_WORDS=(rosd-kit run op2); COMP_CWORD=2; '
        '_rosd_kit_completion rosd-kit; echo "$COMPREPLY"'
    )
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    done = subprocess.run(["bash", "--norc", "-c", script], env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("op2sd\n", "")
