"""The memory that a run holds against what `rosd-kit doctor` said before, each figure from a fresh process.

    python benchmarks/memory.py              measures every case and writes benchmarks/RESULTS-memory.md
    python benchmarks/memory.py lora         only the cases whose names hold this word; prints, writes nothing

What a process holds before the model is loaded is taken off on both sides: the runtime is 300 MiB and no affair of a model.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from harness import PeakMemory, in_fresh_process, machine, table

HERE = Path(__file__)
SMOL = {
    "model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
    "num_attention_heads": 9, "num_key_value_heads": 3, "tie_word_embeddings": True, "max_position_embeddings": 2048,
}  # fmt: skip
MEDIUM = {
    "model_type": "qwen3", "vocab_size": 32000, "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8,
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64, "tie_word_embeddings": True,
    "max_position_embeddings": 2048,
}  # fmt: skip
COMMON = [
    "problems_per_step=2", "group_size=4", "model.device=cpu", "sampling.max_prompt_tokens=64", "sampling.max_new_tokens=128",
    "sampling.max_teacher_prompt_tokens=192", "batch.tokens=768", "batch.chunk_mib=64", "optimizer.warmup_steps=0",
]  # fmt: skip
LONG = ["sampling.max_new_tokens=448", "batch.tokens=2048"]
CASES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "medium, full, float32": (MEDIUM, []),
    "medium, full, float32, padded": (MEDIUM, ["batch.layout=padded"]),
    "medium, full, float32, long": (MEDIUM, LONG),
    "medium, full, float32, checkpointing, long": (MEDIUM, [*LONG, "model.gradient_checkpointing=true"]),
    "medium, full, float32, selective, long": (MEDIUM, [*LONG, "model.gradient_checkpointing=selective"]),
    "medium, full, bfloat16": (MEDIUM, ["model.dtype=bfloat16"]),
    "medium, LoRA 16": (MEDIUM, ["model.lora.rank=16"]),
    "medium, moving average": (MEDIUM, ["teacher=ema"]),
    "medium, 8-bit AdamW": (MEDIUM, ["optimizer.name=adamw8bit"]),
    "SmolLM2's shape, full, float32": (SMOL, []),
    "SmolLM2's shape, LoRA 16": (SMOL, ["model.lora.rank=16"]),
    "SmolLM2's shape, full, bfloat16": (SMOL, ["model.dtype=bfloat16"]),
}


def measure(name: str, side: str) -> dict[str, float]:
    """Return bytes measured and estimated of one case, while training or while sampling."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from rosd_kit.memory import estimate_memory
    from rosd_kit.model.micro.tokenizer import build_tokenizer
    from rosd_kit.model.student import Student
    from rosd_kit.plugins.manager import PluginManager
    from rosd_kit.recipe import build_components, load_recipe
    from rosd_kit.training.optimizer import Optimizer

    shape, changes = CASES[name]
    values = dict(shape)
    with tempfile.TemporaryDirectory() as folder:
        config = AutoConfig.for_model(values.pop("model_type"), **values)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
        build_tokenizer().save_pretrained(folder)
        registry = PluginManager().registry
        recipe = load_recipe("rosd", [*COMMON, f"model.path={folder}", *changes], registry=registry)
        components = build_components(recipe, registry)
        found = estimate_memory(recipe, components)
        torch.nn.Linear(64, 64)(torch.randn(512, 64)).sum().backward()  # what the runtime takes for itself
        gc.collect()
        with PeakMemory("cpu") as floor:
            pass
        before = floor.before
        student = Student.load(recipe.model, keep_initial=any(component.wants_initial() for component in components))
    components.teacher.attach(student)
    optimizer = Optimizer(student.model, recipe.optimizer, steps=4)
    for _ in range(2):
        with PeakMemory("cpu") as peak:
            train(student, optimizer, components, recipe)
    if side == "sample":
        with PeakMemory("cpu") as peak:
            sample(student, components, recipe)
    return {"measured": peak.before + peak.bytes - before, "estimated": getattr(found, side)}


def train(student: Any, optimizer: Any, components: Any, recipe: Any) -> None:
    """Take a step on texts at their longest."""
    from rosd_kit.training.step_loss import backward_step
    from rosd_kit.types import DistillSample, TeacherView

    sampling, vocabulary, rollouts = recipe.sampling, student.vocabulary, range(recipe.group_size)
    # No two responses begin alike, or they would share what they have in common.
    responses = [tuple((7 + 1009 * rollout + i) % vocabulary for i in range(sampling.max_new_tokens)) for rollout in rollouts]
    samples = [
        DistillSample(
            problem_id=str(problem),
            prompt_ids=tuple((i * 13 + problem) % vocabulary for i in range(sampling.max_prompt_tokens)),
            response_ids=responses[rollout],
            behaviour_logprobs=(-9.0,) * sampling.max_new_tokens,
            token_weights=(1.0,) * sampling.max_new_tokens,
            teacher_views=(
                TeacherView(
                    prompt_ids=tuple((i * 7 + rollout) % vocabulary for i in range(sampling.max_teacher_prompt_tokens)),
                    source="idea",
                ),
            ),
            reward=0.0,
            success=False,
            group_rewards=(0.0, 1.0),
        )
        for problem in range(recipe.problems_per_step)
        for rollout in rollouts
    ]
    student.model.train()
    with components.teacher.scoring(student) as teacher_models:
        report = backward_step(
            student=student.model,
            teacher_models=teacher_models,
            samples=samples,
            objectives=components.objectives,
            settings=recipe.batch,
            pad_id=0,
        )
    student.model.eval()
    optimizer.step(report.loss)
    components.teacher.after_step(student)


def sample(student: Any, components: Any, recipe: Any) -> None:
    """Sample a step's rollouts from prompts at their longest; random weights hardly ever end a response."""
    from rosd_kit.types import GenerateRequest, Sampling

    components.rollout.start(student)
    requests = [
        GenerateRequest(
            prompt_ids=tuple((i * 13 + problem) % student.vocabulary for i in range(recipe.sampling.max_prompt_tokens)),
            sampling=Sampling(max_new_tokens=recipe.sampling.max_new_tokens),
            seed=problem * 100 + rollout,
        )
        for problem in range(recipe.problems_per_step)
        for rollout in range(recipe.group_size)
    ]
    components.rollout.generate(requests)


def main() -> None:
    """Measure and write, or be the fresh process that measures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("word", nargs="?", default="")
    parser.add_argument("--task")
    asked = parser.parse_args()
    if asked.task:
        print(json.dumps(measure(**json.loads(asked.task))))
        return
    # What is freed goes back to the system at once, so that what a process holds is what it uses.
    os.environ |= {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    rows = []
    for name in CASES:
        if asked.word in name:
            for side in ("train", "sample"):
                found = in_fresh_process(HERE, {"name": name, "side": side})
                rows.append(row(name, side, found))
                print(" | ".join(rows[-1]), flush=True)
    if not asked.word:
        (HERE.parent / "RESULTS-memory.md").write_text(page(rows))


def row(name: str, side: str, found: dict[str, Any]) -> list[str]:
    """Return a line of the table."""
    if "failed" in found:
        return [name, side, "failed", str(found["failed"]), ""]
    said, held = found["estimated"], found["measured"]
    return [name, side, f"{held / 2**20:,.0f}", f"{said / 2**20:,.0f}", f"{100 * (said / held - 1):+.0f} %"]


def page(rows: list[list[str]]) -> str:
    """Return the whole page."""
    return f"""# What a run holds, and what doctor said

On {machine()}. MiB above what a fresh process holds before it loads the model; the second of two steps on texts at their
longest, then the rollouts of a step. `estimated` is what `rosd-kit doctor RECIPE` prints for the same recipe. Nothing here
was measured on a GPU.

    python benchmarks/memory.py

{table(["run", "while", "measured", "estimated", "estimate is off by"], rows)}
"""


if __name__ == "__main__":
    main()
