"""A whole SDPO step, from given rollouts to updated weights, against TRL 1.16's SDPOTrainer.

    python benchmarks/step.py                  # the embedded model and SmolLM2-135M's shape; writes results/step.jsonl
    python benchmarks/step.py --models micro

Both train the same weights on the same rollouts with the same teacher prompts, towards the top-100 and a tail by JSD .5:
student forward and backward, teacher forward, clipping, AdamW, no gradient checkpointing. Both run with micro-batches of
several sizes. SmolLM2's weights and samples are random: time does not depend on them.
"""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from harness import PeakMemory, in_fresh_process, machine, take_turns

from rosd_kit.contracts import Expert, LossParts
from rosd_kit.parts import WeightedObjective
from rosd_kit.types import DistillSample, TeacherView

STORE = Path(__file__).parent / "results/step.jsonl"
SIZES = {
    "micro": ("ours-1024", "ours-3072", "ours-16384", "trl-8", "trl-16", "trl-32"),
    "smollm2-135m": ("ours-512", "ours-1024", "trl-2", "trl-4"),
}
LR = 1e-5


def model_and_samples(name: str) -> tuple[Any, Any, list[DistillSample]]:
    """Return model, tokenizer and the samples of one step."""
    return _micro() if name == "micro" else _smollm2()


def _micro() -> tuple[Any, Any, list[DistillSample]]:
    """Take the samples that the recipe `sdpo` would train on in its first step."""
    from rosd_kit.pipeline import Pipeline
    from rosd_kit.plugins import PluginManager
    from rosd_kit.recipe import build_components, load_recipe
    from rosd_kit.train.student import Student

    registry = PluginManager(selection="builtin").registry
    recipe = load_recipe("sdpo", registry=registry)
    parts = build_components(recipe, registry)
    student = Student.load(recipe.model, keep_initial=False)
    parts.rollout.start(student)
    pipeline = Pipeline(
        parts=parts, engine=parts.rollout, encode=student.prompt_ids, sampling=recipe.sampling,
        group_size=recipe.group_size, seed=recipe.seed,
    )  # fmt: skip
    problems = parts.task.train_batch(step=0, count=recipe.problems_per_step, seed=recipe.seed)
    return student.model, student.tokenizer, list(pipeline.step(problems, 0).samples)


def _smollm2(count: int = 8) -> tuple[Any, Any, list[DistillSample]]:
    """Make one problem's group: a prompt of 150 tokens, one demonstration of 150 for all, responses of 60-250."""
    from transformers import LlamaConfig, LlamaForCausalLM

    from rosd_kit.micro.language import build_tokenizer

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49_152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, tie_word_embeddings=True, max_position_embeddings=8192, pad_token_id=0,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(1)

    def ids(low: int, high: int) -> tuple[int, ...]:
        length = int(torch.randint(low, high, (1,), generator=generator))
        return tuple(torch.randint(3, 49_152, (length,), generator=generator).tolist())

    prompt, solution = ids(150, 151), ids(150, 151)
    samples = []
    for response in [ids(60, 250) for _ in range(count)]:
        samples.append(
            DistillSample(
                problem_id="one",
                prompt_ids=prompt,
                response_ids=response,
                behaviour_logprobs=(-10.8,) * len(response),
                token_weights=(1.0,) * len(response),
                teacher_views=(TeacherView(prompt_ids=prompt + solution, source="solution"),),
                reward=0.0,
                success=False,
                group_rewards=(0.0, 1.0),
            )
        )
    return LlamaForCausalLM(config), build_tokenizer(), samples


def ours(model: Any, teacher: Any, tokenizer: Any, samples: list[DistillSample], tokens: int) -> Callable[[], float]:
    """Return a step of rosd-kit with the parts of `recipes/sdpo.yaml`, on micro-batches of so many tokens."""
    from rosd_kit.components.corrections import NoCorrection
    from rosd_kit.components.divergences import JSD
    from rosd_kit.components.objectives import Distill
    from rosd_kit.components.supports import StudentTopK
    from rosd_kit.settings import BatchSettings, OptimizerSettings
    from rosd_kit.train.optimizer import Optimizer
    from rosd_kit.train.scoring import backward_step

    parts = LossParts(support=StudentTopK(), divergence=JSD(), correction=NoCorrection())
    optimizer = Optimizer(model, OptimizerSettings(lr=LR, warmup_steps=0), steps=1000)

    def step() -> float:
        model.train()
        report = backward_step(
            student=model,
            experts=(Expert(teacher),),
            samples=samples,
            objectives=(WeightedObjective(Distill(parts=parts)),),
            settings=BatchSettings(tokens=tokens),
            pad_id=tokenizer.pad_token_id,
        )
        optimizer.step(report.loss)
        return report.loss

    return step


def trl(model: Any, teacher: Any, tokenizer: Any, samples: list[DistillSample], size: int) -> Callable[[], float]:
    """Return a step of SDPOTrainer on micro-batches of `size` samples; its own generation is not called."""
    from datasets import Dataset
    from trl.experimental.sdpo import SDPOConfig, SDPOTrainer

    config = SDPOConfig(
        output_dir=tempfile.mkdtemp(),
        report_to="none",
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        per_device_train_batch_size=2,
        num_generations=2,
        learning_rate=LR,
        distillation_mode="topk_logits",
        distillation_topk=100,
        distillation_add_tail=True,
        distillation_alpha=0.5,
        distillation_is_clip=None,
        distillation_weight=1.0,
        teacher_model_kind="live",  # replaced by the common teacher below
    )
    data = Dataset.from_list([{"prompt": "a", "privileged_context": ""}] * 2)
    trainer = SDPOTrainer(
        model=model, args=config, train_dataset=data, processing_class=tokenizer, reward_funcs=lambda **_: [0.0, 0.0]
    )
    trainer.teacher_model = teacher
    trainer.current_gradient_accumulation_steps = -(-len(samples) // size)
    optimizer = trainer.create_optimizer()
    batches = [_as_tensors(samples[i : i + size], tokenizer.pad_token_id) for i in range(0, len(samples), size)]

    def step() -> float:
        trainer.model.train()
        total = 0.0
        for inputs in batches:
            loss = trainer.compute_loss(trainer.model, inputs)
            trainer.accelerator.backward(loss)
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return total

    return step


def _as_tensors(samples: Sequence[DistillSample], pad: int) -> dict[str, Any]:
    """Return the samples as the trainer keeps them: prompts padded on the left, completions on the right."""
    prompt_ids, prompt_mask = _padded([s.prompt_ids for s in samples], pad, left=True)
    completion_ids, completion_mask = _padded([s.response_ids for s in samples], pad, left=False)
    taught_ids, taught_mask = _padded([s.teacher_views[0].prompt_ids for s in samples], pad, left=True)
    return {
        "prompt_ids": prompt_ids,
        "prompt_mask": prompt_mask,
        "completion_ids": completion_ids,
        "completion_mask": completion_mask,
        "teacher_input_ids": torch.cat([taught_ids, completion_ids], dim=1),
        "teacher_attention_mask": torch.cat([taught_mask, completion_mask], dim=1),
        "self_distillation_mask": torch.ones(len(samples)),
    }


def _padded(rows: Sequence[Sequence[int]], pad: int, *, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
    longest = max(map(len, rows))
    ids, mask = torch.full((len(rows), longest), pad), torch.zeros(len(rows), longest, dtype=torch.long)
    for index, row in enumerate(rows):
        span = slice(longest - len(row), None) if left else slice(len(row))
        ids[index, span], mask[index, span] = torch.tensor(row), 1
    return ids, mask


def program(name: str, model: Any, tokenizer: Any, samples: list[DistillSample]) -> Callable[[], float]:
    """Return a step of `ours-<tokens>` or `trl-<samples>`, by the size of a micro-batch, on copies of the model."""
    student, teacher = copy.deepcopy(model), copy.deepcopy(model).requires_grad_(False).eval()
    make, size = name.split("-")
    return {"ours": ours, "trl": trl}[make](student, teacher, tokenizer, samples, int(size))


def measure(which: str, repeats: int) -> dict[str, Any]:
    """Time all programs in turns; tokens are those of the samples, prompts included."""
    model, tokenizer, samples = model_and_samples(which)
    steps = {name: program(name, model, tokenizer, samples) for name in SIZES[which]}
    losses = {name: step() for name, step in steps.items()}
    times = take_turns(steps, repeats=repeats)
    tokens = sum(len(s.prompt_ids) + len(s.response_ids) for s in samples)
    return {
        "samples": len(samples),
        "tokens": tokens,
        "losses": losses,
        "seconds": {name: time.to_json() for name, time in times.items()},
    }


def memory(which: str, name: str) -> dict[str, Any]:
    """Return the peak of two steps above models and data, without the gradients and AdamW's two moments."""
    model, tokenizer, samples = model_and_samples(which)
    step = program(name, model, tokenizer, samples)
    with PeakMemory("cpu") as peak:
        step()
        step()
    floor = 3 * sum(p.numel() * p.element_size() for p in model.parameters())
    return {"mib": (peak.bytes - floor) / 2**20}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=tuple(SIZES), default=tuple(SIZES))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--task", type=json.loads, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.task is not None:
        task = asked.task
        print(
            json.dumps(memory(task["model"], task["memory"]) if "memory" in task else measure(task["model"], task["repeats"]))
        )
        return
    for which in asked.models:
        script = Path(__file__)
        found = in_fresh_process(script, {"model": which, "repeats": asked.repeats})
        if "failed" in found:
            raise SystemExit(f"{which}: {found['failed']}")
        peaks = {name: in_fresh_process(script, {"model": which, "memory": name}) for name in found["seconds"]}
        row = {"model": which, "machine": machine(), **found, "memory": peaks}
        with STORE.open("a") as file:
            file.write(json.dumps(row) + "\n")
        for name, time in found["seconds"].items():
            speed, loss = found["tokens"] / time["median"], found["losses"][name]
            print(f"{which} {name}: {speed:.0f} tokens/s, loss {loss:.6f}, {peaks[name]}")


if __name__ == "__main__":
    main()
