"""Tiny configurations of many architectures, and the layouts that each can be trained with.

`layout` is what `batch.layout=auto` must choose, `packs` whether `packed` gives the right log-probs, `rows` how sampling
caches.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rosd_kit.decoding.choice import RowsKind
from rosd_kit.model.packing import LayoutMode

MOE: dict[str, Any] = {
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    "num_experts_per_tok": 2,
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 16),
    **dict.fromkeys(("n_group", "topk_group"), 1),
}
LINEAR: dict[str, Any] = {
    **dict.fromkeys(("linear_key_head_dim", "linear_value_head_dim", "head_dim"), 8),
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "layer_types": ["linear_attention", "full_attention"],
}
MAMBA2: dict[str, Any] = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1}
LATENT: dict[str, Any] = {
    **dict.fromkeys(("kv_lora_rank", "q_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "head_dim"), 8),
    "num_key_value_heads": 4,
}
WINDOW: dict[str, Any] = {"head_dim": 8, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
GPT: dict[str, Any] = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512, "n_inner": 48}
ZAMBA: dict[str, Any] = {
    "num_hidden_layers": 4,
    "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
    "mamba_d_state": 8,
}


@dataclass(frozen=True)
class Architecture:
    """A configuration and what must hold for it."""

    kind: str
    config: dict[str, Any] = field(default_factory=dict)
    layout: LayoutMode = "padded"
    packs: bool = False
    rows: RowsKind = "shared"


def _shared(kind: str, *, packs: bool = True, rows: RowsKind = "shared", **config: Any) -> Architecture:
    return Architecture(kind, {"head_dim": 8, **config}, "shared", packs, rows)


def _padded(kind: str, *, packs: bool = True, rows: RowsKind = "shared", **config: Any) -> Architecture:
    return Architecture(kind, config, "padded", packs, rows)


def _recurrent(kind: str, *, rows: RowsKind = "cached", **config: Any) -> Architecture:
    return Architecture(kind, config, "padded", packs=False, rows=rows)


PLAIN = (
    *("gemma", "cohere", "glm", "glm4", "granite", "hyperclovax", "olmo", "olmo2", "apertus", "arcee"),
    *("bitnet", "ernie4_5", "helium", "hunyuan_v1_dense", "ministral3", "seed_oss", "gpt_neox", "nemotron", "persimmon"),
    *("phi", "stablelm", "nanochat", "jais2", "doge"),
)
FULL_ATTENTION = [
    *(_shared(kind, rows="direct") for kind in ("llama", "qwen3")),
    *(_shared(kind) for kind in PLAIN),
    *(_shared(kind, **MOE) for kind in ("qwen3_moe", "olmoe", "flex_olmo", "granitemoe", "granitemoeshared", "phimoe")),
    *(_shared(kind, **MOE) for kind in ("hunyuan_v1_moe", "ernie4_5_moe", "glm4_moe", "minimax_m2")),
    _shared("jetmoe", **MOE, rows="cached"),
    *(_shared(kind, **{**MOE, **LATENT}, rows="cached") for kind in ("deepseek_v2", "deepseek_v3")),
    _shared("minicpm3", **LATENT, rows="cached"),
    _shared("smollm3", no_rope_layer_interval=2),
    _shared("phi3", partial_rotary_factor=0.5),
    _shared("gpt2", **GPT),
    _shared("gpt_bigcode", **GPT),
]
#: Their attention takes no notice of positions, or is biased by distance (ALiBi), so packed sequences would see each other.
LEARNED_POSITIONS_AND_ALIBI = [
    _shared("opt", packs=False, ffn_dim=48, word_embed_proj_dim=32),
    _shared("biogpt", packs=False),
    _padded("bloom", packs=False, rows="cached", n_head=4, n_layer=2),
    _padded("mpt", packs=False, rows="cached", d_model=32, n_heads=4, n_layers=2, max_seq_len=64, expansion_ratio=2),
    _padded("gpt_neo", rows="cached", num_layers=2, num_heads=4, window_size=4, attention_types=[[["global", "local"], 1]]),
    _padded("xglm", packs=False, rows="cached", d_model=32, ffn_dim=48, num_layers=2, attention_heads=4),
    _padded("openai-gpt", packs=False, rows="recomputed", **GPT),
]
WINDOWS = [
    *(_padded(kind, **WINDOW) for kind in ("cohere2", "exaone4", "gemma3_text", "olmo3")),
    *(_padded(kind, head_dim=8, sliding_window=4, query_pre_attn_scalar=8) for kind in ("gemma2", "vaultgemma")),
    *(_padded(kind, head_dim=8, sliding_window=4) for kind in ("ministral", "starcoder2")),
    _padded("mistral", rows="direct", head_dim=8, sliding_window=4),
    _padded("mixtral", **MOE, sliding_window=4),
    _padded("qwen2", rows="direct", use_sliding_window=True, sliding_window=4, max_window_layers=1),
    _padded("gpt_oss", packs=False, **MOE, head_dim=8, sliding_window=4),
    _padded("afmoe", packs=False, **MOE, **WINDOW),
]
RECURRENT = [
    _recurrent("qwen3_next", **MOE, **LINEAR),
    _recurrent("qwen3_5_text", **LINEAR),
    _recurrent("qwen3_5_moe_text", **MOE, **LINEAR),
    _recurrent("olmo_hybrid", **LINEAR),
    _recurrent(
        "minimax", **MOE, rows="recomputed", block_size=8, layer_types=["linear_attention", "full_attention"], head_dim=8
    ),
    _recurrent("lfm2", layer_types=["conv", "full_attention"]),
    _recurrent("lfm2_moe", **MOE, layer_types=["conv", "full_attention"]),
    _recurrent("mamba", state_size=8, time_step_rank=4),
    _recurrent("falcon_mamba", state_size=8, time_step_rank=4),
    _recurrent("mamba2", state_size=8, num_heads=8, head_dim=8, n_groups=1),
    _recurrent("bamba", attn_layer_indices=[1], **MAMBA2),
    _recurrent("falcon_h1", mamba_d_ssm=64, head_dim=8, lm_head_multiplier=0.5, **MAMBA2),
    _recurrent("granitemoehybrid", **MOE, **MAMBA2, layer_types=["mamba", "attention"], shared_intermediate_size=16),
    _recurrent(
        "jamba", **MOE, attn_layer_period=2, attn_layer_offset=1, expert_layer_period=2, expert_layer_offset=1, mamba_d_state=8
    ),
    _recurrent(
        "nemotron_h",
        **MOE,
        layers_block_type=["mamba", "attention", "mlp"],
        **{"num_hidden_layers": 3, "mamba_num_heads": 8, "mamba_head_dim": 8, "ssm_state_size": 8, "n_groups": 1},
    ),
    _recurrent(
        "zamba",
        **ZAMBA,
        **{"attn_layer_offset": 1, "attn_layer_period": 2, "mamba_dt_rank": 4, "n_mamba_heads": 2},
        **{"attention_hidden_size": 64, "attention_head_dim": 16},
    ),
    _recurrent(
        "zamba2",
        **ZAMBA,
        n_mamba_heads=8,
        mamba_headdim=8,
        mamba_ngroups=1,
        num_mem_blocks=1,
        use_mem_rope=True,
        adapter_rank=4,
    ),
    _recurrent(
        "recurrent_gemma", rows="recomputed", num_hidden_layers=3, lru_width=32, attention_window_size=16, logits_soft_cap=5.0
    ),
    _recurrent("rwkv", rows="recomputed", attention_hidden_size=32),
]
#: Attention that is not all there when sequences share a prefix, and decoders of translation models.
OTHERS = [
    _padded("diffllama", rows="cached"),
    _padded(
        "bart", packs=False, rows="recomputed", d_model=32, decoder_layers=2, decoder_attention_heads=4, decoder_ffn_dim=48
    ),
]
ARCHITECTURES = [*FULL_ATTENTION, *LEARNED_POSITIONS_AND_ALIBI, *WINDOWS, *RECURRENT, *OTHERS]
#: They read to the right, or otherwise give a token other log-probs when more text follows.
NOT_CAUSAL = ["bert", "roberta", "bert-generation"]
