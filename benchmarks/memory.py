"""Compares the memory that a run holds with the estimate of `rosd-kit doctor`, each measured in a fresh process.

    python benchmarks/memory.py              measures every case and writes benchmarks/RESULTS-memory.md
    python benchmarks/memory.py lora         only the cases whose name contains this word; prints, writes nothing

The memory that a process holds before it loads the model (about 300 MiB of runtime) is subtracted.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import PeakMemory, in_fresh_process, machine, table

if TYPE_CHECKING:
    from rosd_kit.model.student import Student
    from rosd_kit.recipe import Recipe
    from rosd_kit.recipe.built import BuiltComponents
    from rosd_kit.training.optimizer import Optimizer

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


def measure(name: str, phase: str) -> dict[str, float]:
    """Return measured and estimated bytes of one case in a phase: `train` or `sample`."""
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
        estimate = estimate_memory(recipe, components)
        torch.nn.Linear(64, 64)(torch.randn(512, 64)).sum().backward()  # let the runtime allocate its buffers
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
    if phase == "sample":
        with PeakMemory("cpu") as peak:
            sample(student, components, recipe)
    return {"measured": peak.before + peak.bytes - before, "estimated": estimate.train if phase == "train" else estimate.sample}


def train(student: Student, optimizer: Optimizer, components: BuiltComponents, recipe: Recipe) -> None:
    """Take a training step on sequences of maximum length."""
    from rosd_kit.training.step_loss import backward_step
    from rosd_kit.types import DistillSample, TeacherView

    sampling, vocabulary, rollouts = recipe.sampling, student.vocabulary, range(recipe.group_size)
    # No two responses start with the same token, or the run would compute their common prefix once.
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


def sample(student: Student, components: BuiltComponents, recipe: Recipe) -> None:
    """Sample the rollouts of a step from prompts of maximum length; random weights hardly ever end a response."""
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
    """Measure all cases and write the page; with `--task`, measure one case in this process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("word", nargs="?", default="")
    parser.add_argument("--task")
    arguments = parser.parse_args()
    if arguments.task:
        print(json.dumps(measure(**json.loads(arguments.task))))
        return
    # Return freed memory to the system at once, so that the resident size is what the process uses.
    os.environ |= {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    rows = []
    for name in CASES:
        if arguments.word in name:
            for phase in ("train", "sample"):
                result = in_fresh_process(HERE, {"name": name, "phase": phase})
                rows.append(row(name, phase, result))
                print(" | ".join(rows[-1]), flush=True)
    if not arguments.word:
        (HERE.parent / "RESULTS-memory.md").write_text(page(rows))


def row(name: str, phase: str, result: dict[str, Any]) -> list[str]:
    """Return a row of the table."""
    if "failed" in result:
        return [name, phase, "failed", str(result["failed"]), ""]
    estimated, measured = result["estimated"], result["measured"]
    error = f"{100 * (estimated / measured - 1):+.0f} %"
    return [name, phase, f"{measured / 2**20:,.0f}", f"{estimated / 2**20:,.0f}", error]


def page(rows: list[list[str]]) -> str:
    """Return the page with all rows."""
    return f"""# Measured memory and the estimate of doctor

On {machine()}. MiB above the memory of a fresh process before it loads the model. Training: the second of two steps on
sequences of maximum length. Sampling: the rollouts of a step. `estimated` is the output of `rosd-kit doctor RECIPE` for the
same recipe. Nothing here was measured on a GPU.

    python benchmarks/memory.py

{table(["run", "phase", "measured", "estimated", "error of the estimate"], rows)}
"""


if __name__ == "__main__":
    main()
