"""The layouts of training against each sequence by itself, and cached sampling against scoring, for many architectures."""

from __future__ import annotations

import warnings

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from rosd_kit.components.rollouts.transformers import TransformersEngine
from rosd_kit.errors import RunError
from rosd_kit.model.packing import LayoutMode, TokenSequence, build_layout
from rosd_kit.model.split import split_model
from rosd_kit.model.split_check import check_split
from rosd_kit.model.student import Student
from rosd_kit.settings import ModelSettings
from rosd_kit.types import GenerateRequest, Sampling
from tests.model.architectures import ARCHITECTURES, NOT_CAUSAL, RECURRENT, Architecture
from tests.model.tiny_models import SHAPE, tokenizer

#: Longer than the tiny windows; two share a prefix, and one is much shorter than the others.
SEQUENCES = [
    TokenSequence(tuple(range(5, 17)), (20, 21, 22, 23, 24, 25, 26), "a"),
    TokenSequence(tuple(range(5, 17)), (20, 21, 40, 41), "a"),
    TokenSequence((50, 51), (60, 61, 62), "b"),
]
#: (prompt, length of its response): prompts of many lengths, which end at different times.
REQUESTS = [
    *((tuple(range(5, 17)), 24), (tuple(range(5, 17)), 6), ((50, 51, 52, 53), 9), ((50, 51, 52, 53), 24)),
    *((tuple(range(30, 39)), 24), ((7,), 7), ((8,), 5), ((9, 9), 3)),
]


def make(kind: str, config: dict) -> torch.nn.Module:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = AutoConfig.for_model(kind, **{**SHAPE, "vocab_size": len(tokenizer()), **config})
        return AutoModelForCausalLM.from_config(settings).eval()


def logprobs_alone(model: torch.nn.Module, sequence: TokenSequence) -> torch.Tensor:
    """Return the log-probs of the response's positions from the model's own forward pass, `[tokens, vocab]`."""
    logits = model(input_ids=torch.tensor([sequence.ids]), use_cache=False).logits[0]
    return logits[len(sequence.prompt) - 1 :].double().log_softmax(-1)


def greatest_difference(model: torch.nn.Module, mode: LayoutMode) -> float:
    """Return the greatest difference between a layout's log-probs and those of each sequence by itself."""
    parts = split_model(model)
    layout = build_layout(SEQUENCES, pad_id=0, mode=mode)
    logprobs = parts.logits(parts.hidden(layout).flatten(0, 1)[layout.state_indices]).double().log_softmax(-1)
    return float((logprobs - torch.cat([logprobs_alone(model, sequence) for sequence in SEQUENCES])).abs().max())


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda architecture: architecture.kind)
@torch.no_grad()
def test_layouts_and_cached_sampling_give_the_log_probs_of_single_sequences(architecture: Architecture):
    model = make(architecture.kind, architecture.config)
    random_state = torch.get_rng_state()
    check_split(model)
    assert torch.equal(torch.get_rng_state(), random_state)
    used = split_model(model).layout_mode("auto")
    assert used == architecture.layout
    assert greatest_difference(model, used) < 1e-3
    if architecture.packs:
        assert check_split(model, "packed") is None
        assert greatest_difference(model, "packed") < 1e-3
    else:
        with pytest.raises(RunError, match=r"batch\.layout: .* packed into one row .* Use padded, or auto"):
            check_split(model, "packed")
    engine = TransformersEngine(TransformersEngine.Config())
    engine.start(Student(model, tokenizer(), ModelSettings(path="tiny", device="cpu"), keep_initial=False))
    requests = [
        GenerateRequest(prompt_ids=prompt, sampling=Sampling(max_new_tokens=length), seed=seed)
        for seed, (prompt, length) in enumerate(REQUESTS)
    ]
    for completion in engine.generate(requests):
        response = torch.tensor(completion.token_ids)
        scored = logprobs_alone(model, TokenSequence(completion.prompt_ids, completion.token_ids))
        scored = scored.gather(1, response[:, None]).squeeze(1)
        torch.testing.assert_close(torch.tensor(completion.logprobs).double(), scored, atol=2e-3, rtol=0)
    assert engine._choice is not None
    assert engine._choice.kind == architecture.rows


@pytest.mark.parametrize("kind", NOT_CAUSAL)
@pytest.mark.parametrize("layout", ["auto", "padded"])
def test_models_that_are_not_causal_are_refused(kind, layout):
    model = make(kind, {"is_decoder": False})
    with pytest.raises(RunError, match=rf"model\.path: {type(model).__name__} .* Use "):
        check_split(model, layout)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", ["qwen3_5_text", "lfm2", "jamba", "falcon_h1", "opt"])
def test_a_state_that_leaks_is_found_in_narrow_types_too(kind, dtype):
    known = {architecture.kind: architecture for architecture in ARCHITECTURES}
    model = make(kind, known[kind].config).to(dtype)
    check_split(model, "padded")
    with pytest.raises(RunError, match=r"batch\.layout: .* packed into one row"):
        check_split(model, "packed")


@pytest.mark.parametrize("kind", ["qwen3", "llama", "mistral", "qwen3_moe", "gemma3_text", "gpt2"])
def test_rounding_in_bfloat16_is_no_difference(kind):
    known = {architecture.kind: architecture for architecture in ARCHITECTURES}
    model = make(kind, known[kind].config).bfloat16()
    for layout in ("auto", "padded", "packed"):
        assert check_split(model, layout) is None


def test_weights_that_are_rescaled_in_place_are_refused():
    model = make("rwkv", {"attention_hidden_size": 32, "rescale_every": 1})
    with pytest.raises(RunError, match=r"model\.path: RwkvForCausalLM rescales its own weights .* Set rescale_every to 0"):
        check_split(model)


def test_a_model_that_cannot_run_is_refused_by_name():
    model = make("electra", {"embedding_size": 64})
    with pytest.raises(RunError, match=r"model\.path: ElectraForCausalLM cannot run on a short text: RuntimeError"):
        check_split(model)


def test_recurrent_models_are_never_laid_out_along_a_prefix_tree():
    for architecture in RECURRENT:
        with pytest.raises(RunError, match=r"batch\.layout: 'shared' is not possible with .* Use auto, padded or packed"):
            split_model(make(architecture.kind, architecture.config)).layout_mode("shared")
