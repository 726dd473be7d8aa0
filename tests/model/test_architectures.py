"""A training step with many architectures, and the model that it exports."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.model.tiny_models import EAGER, KINDS, save


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_trains_and_exports_the_architecture(kind, train, tmp_path):
    folder = save(tmp_path / kind, kind)
    attention = ["model.attention=eager"] if kind in EAGER else []
    metrics, run = train(folder, *attention)
    assert metrics["train/applied"] == 1.0 and metrics["train/samples"] == 2
    assert metrics["train/loss"] > 0 and metrics["train/weight_change"] > 0
    assert metrics["train/engine_mismatch"] < 1e-3
    before, after = (AutoModelForCausalLM.from_pretrained(path) for path in (folder, run / "model"))
    moved = [float((a - b).abs().max()) for a, b in zip(before.parameters(), after.parameters(), strict=True)]
    assert sum(m > 0 for m in moved) > len(moved) / 2
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        assert after(ids).logits.isfinite().all()
