"""Suggests the option that an unknown name means: by what other trainers call it, by its last word, or by its letters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pydantic import BaseModel

from rosd_kit.contracts import SLOTS
from rosd_kit.errors import did_you_mean
from rosd_kit.settings import CoreSettings

#: What TRL, verl and transformers call it, or a user would.
_MEANINGS = {
    "lr": "optimizer.lr",
    "learning_rate": "optimizer.lr",
    "optim": "optimizer.name",
    "warmup": "optimizer.warmup_steps",
    "warmup_ratio": "optimizer.warmup_steps",
    "lr_scheduler_type": "optimizer.decay",
    "scheduler": "optimizer.decay",
    "max_grad_norm": "optimizer.clip",
    "grad_clip": "optimizer.clip",
    "max_tokens": "sampling.max_new_tokens",
    "max_completion_length": "sampling.max_new_tokens",
    "max_response_length": "sampling.max_new_tokens",
    "max_length": "sampling.max_new_tokens",
    "max_seq_length": "sampling.max_new_tokens",
    "max_prompt_length": "sampling.max_prompt_tokens",
    "batch_size": "problems_per_step",
    "train_batch_size": "problems_per_step",
    "per_device_train_batch_size": "problems_per_step",
    "micro_batch_size": "batch.tokens",
    "gradient_accumulation_steps": "batch.tokens",
    "num_generations": "group_size",
    "rollouts": "group_size",
    "n": "group_size",
    "max_steps": "steps",
    "num_steps": "steps",
    "epochs": "steps",
    "num_train_epochs": "steps",
    "model_name": "model.path",
    "model_name_or_path": "model.path",
    "name_or_path": "model.path",
    "bf16": "model.dtype",
    "fp16": "model.dtype",
    "torch_dtype": "model.dtype",
    "lora_rank": "model.lora.rank",
    "lora_r": "model.lora.rank",
    "lora_alpha": "model.lora.alpha",
    "peft": "model.lora",
    "lora": "model.lora.rank",
    "use_lora": "model.lora.rank",
    "use_peft": "model.lora.rank",
    "save_steps": "checkpoint.every",
    "save_freq": "checkpoint.every",
    "save_total_limit": "checkpoint.keep",
    "eval_steps": "evaluation.every",
    "test_freq": "evaluation.every",
    "eval": "evaluation.problems",
    "evaluate": "evaluation.problems",
    "num_samples": "evaluation.samples",
    "report_to": "tracking.to",
    "logger": "tracking.to",
    "logging": "tracking.to",
    "wandb": "tracking.to",
    "run_name": "name",
    "dataset": "task.path",
    "data": "task.path",
    "train_files": "task.path",
    "prompt": "task.prompt",
    "answer": "task.answer",
    "system": "task.system",
    "system_prompt": "task.system",
    "reward": "verifier",
    "reward_funcs": "verifier",
    "reward_fn": "verifier",
    "use_vllm": "rollout",
    "vllm": "rollout",
    "sglang": "rollout",
    "gpus": "parallel.processes",
    "num_processes": "parallel.processes",
    "teacher_model": "teacher",
    "loss": "objective",
    "loss_type": "divergence",
    "top_k_logits": "support.k",
}
#: Options of the command that people look for among the fields of a recipe.
_OF_THE_COMMAND = {
    **dict.fromkeys(
        ("folder", "output_dir", "default_local_dir", "out", "out_dir", "output", "save_dir", "run_dir", "dir"), "--out"
    ),
    **dict.fromkeys(("experiment_name", "run_folder"), "--name"),
    **dict.fromkeys(("resume", "resume_from", "resume_from_checkpoint", "resume_mode"), "--resume"),
    "plugin": "--plugin",
}
#: The option that a value for a whole section most likely means.
MAIN_OPTIONS = {
    "model": "model.path",
    "model.lora": "model.lora.rank",
    "sampling": "sampling.max_new_tokens",
    "optimizer": "optimizer.name",
    "batch": "batch.tokens",
    "parallel": "parallel.mode",
    "evaluation": "evaluation.problems",
    "checkpoint": "checkpoint.every",
    "samples": "samples.every",
    "tracking": "tracking.to",
    "watch": "watch.patience",
}
_MOST = 3


def nearest_option(field: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for an unknown field, a dotted path, or an empty text. `known` are the fields beside it."""
    section, _, word = field.rpartition(".")
    plain, paths = word.lower().replace("-", "_"), list(_paths(CoreSettings))
    if not section and plain in _OF_THE_COMMAND:
        return f" It is no field of a recipe: give the command {_OF_THE_COMMAND[plain]}, as rosd-kit run --help says."
    meant = _MEANINGS.get(plain) or _MEANINGS.get(f"{section}_{plain}")
    # Inside a section, often that of the rollout, what belongs elsewhere is mostly an option of sampling.
    candidates = [path for path in paths if path.startswith("sampling.")] if section else paths
    same = [path for path in candidates if path.rpartition(".")[2] == plain]
    elsewhere = [meant] if meant else same[:_MOST]
    if section and not (meant and meant.startswith(f"{section}.")) and (near := did_you_mean(word, known)):
        return near
    if elsewhere:
        return f" Did you mean {' or '.join(map(repr, elsewhere))}?"
    return "" if section else did_you_mean(word, known) or did_you_mean(word, paths)


def option_in_words(option: str) -> str | None:
    """Return how to give what a user wrote as an option, for example `--steps`; None if it means nothing that is known."""
    plain = option.lstrip("-").lower().replace("-", "_")
    if plain in _OF_THE_COMMAND:
        return f"Did you mean {_OF_THE_COMMAND[plain]}?"
    paths = [*_paths(CoreSettings), *SLOTS]
    same = [path for path in paths if path == plain] or [path for path in paths if path.rpartition(".")[2] == plain]
    meant = _MEANINGS.get(plain) or next(iter(same), None)
    return meant and f"Fields of a recipe are given without dashes: {meant}=VALUE"


def _paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield the dotted path of every option of the core sections."""
    for name, field in model.model_fields.items():
        parts = getattr(field.annotation, "__args__", (field.annotation,))
        section = next((part for part in parts if isinstance(part, type) and issubclass(part, BaseModel)), None)
        if section is None:
            yield f"{prefix}{name}"
        else:
            yield from _paths(section, f"{prefix}{name}.")
