"""A whole SDPO step, from given rollouts to updated weights, against TRL 1.16's SDPOTrainer.

    python benchmarks/step.py                  # the models named for a CPU; writes results/step-cpu.jsonl
    python benchmarks/step.py --models micro
    python benchmarks/step.py --device cuda    # Qwen3-1.7B's shape in bfloat16, into step-cuda.jsonl

Both train the same weights on the same rollouts with the same teacher prompts, towards the top-100 and a tail by JSD .5:
student forward and backward, teacher forward, clipping, AdamW. Both run with micro-batches of several sizes, and once more
for little memory: `selective` is ours with `gradient_checkpointing: selective` and chunks of 64 MiB, `trl_lean` TRL with
gradient checkpointing, which is its default. TRL takes the mean over samples of the mean over tokens, so ours weighs a token
by 1 / its response's length; losses that differ by more than 0.1 % (and 1e-7) end the benchmark.

`micro` and `smollm2-135m` train on what they sampled themselves in the first step of the recipe `sdpo`, the latter with the
profile `smol`, at temperature 1 and up to 128 tokens. Weights and responses of the two shapes, `-random`, are random, so that
no two rollouts have a token in common: the worst case for a trainer that runs nothing twice.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from harness import PeakMemory, Times, clock, in_fresh_process, machine, take_turns

from rosd_kit.contracts import LossParts, TeacherModel
from rosd_kit.memory.live import LiveMemory
from rosd_kit.recipe.built import WeightedObjective
from rosd_kit.types import DistillSample, TeacherView

SCRIPT = Path(__file__)
RESULTS = Path(__file__).parent / "results"
SIZES = {
    "micro": ("ours-256", "ours-512", "ours-1024", "ours-3072", "padded-3072", "trl-4", "trl-8", "trl-16", "trl-32"),
    "smollm2-135m": ("ours-1024", "selective-256", "selective-416", "trl-1", "trl-2", "trl_lean-1"),
    "smollm2-135m-random": ("ours-1024", "selective-512", "trl-1", "trl_lean-1"),
    "qwen3-1.7b-random": ("ours-4096", "ours-16384", "trl-1", "trl-2", "trl-4", "trl-8"),
}
ON = {"cpu": ("micro", "smollm2-135m", "smollm2-135m-random"), "cuda": ("qwen3-1.7b-random",)}
SMOL = ("group_size=8", "sampling.temperature=1", "sampling.max_new_tokens=128")
LR = 1e-5


def model_and_samples(name: str) -> tuple[Any, Any, list[DistillSample]]:
    """Return model, tokenizer and the samples of one step, the same in every process."""
    makers = {
        "micro": lambda: _first_step([], None, multiple=32),
        "smollm2-135m": lambda: _first_step(SMOL, "smol", multiple=4),
        "smollm2-135m-random": _smollm2,
        "qwen3-1.7b-random": _qwen3,
    }
    return makers[name]()


def _first_step(changes: Sequence[str], profile: str | None, multiple: int) -> tuple[Any, Any, list[DistillSample]]:
    """Take the samples that the recipe `sdpo` would train on in its first step, so many that TRL's micro-batches are full.

    It takes the mean of their means, which is not that of the samples where one is smaller.
    """
    from rosd_kit.model.student import Student
    from rosd_kit.pipeline.pipeline import Pipeline
    from rosd_kit.plugins.manager import PluginManager
    from rosd_kit.recipe import build_components, load_recipe

    registry = PluginManager(selection="builtin").registry
    recipe = load_recipe("sdpo", changes, profile, registry=registry)
    components = build_components(recipe, registry)
    student = Student.load(recipe.model, keep_initial=False)
    components.rollout.start(student)
    pipeline = Pipeline(
        components=components, engine=components.rollout, encode=student.prompt_ids, sampling=recipe.sampling,
        group_size=recipe.group_size, seed=recipe.seed,
    )  # fmt: skip
    problems = components.task.train_batch(step=0, count=recipe.problems_per_step, seed=recipe.seed)
    samples = pipeline.step(problems, 0).samples
    return student.model, student.tokenizer, list(samples[: len(samples) // multiple * multiple])


def _smollm2() -> tuple[Any, Any, list[DistillSample]]:
    """Make one problem's group: a prompt of 150 tokens, one demonstration of 150 for all, responses of 60-250."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49_152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, tie_word_embeddings=True, max_position_embeddings=8192, pad_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config), _tokenizer(), _groups(1, vocabulary=49_152, prompt=150, solution=150, response=(60, 250))


def _qwen3() -> tuple[Any, Any, list[DistillSample]]:
    """Make four groups: prompts of 300 tokens, one demonstration of 600 each, responses of 300-1,500."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=151_936, hidden_size=2048, intermediate_size=6144, num_hidden_layers=28, num_attention_heads=16,
        num_key_value_heads=8, head_dim=128, tie_word_embeddings=True, max_position_embeddings=8192, pad_token_id=0,
    )  # fmt: skip
    samples = _groups(4, vocabulary=151_936, prompt=300, solution=600, response=(300, 1500))
    return Qwen3ForCausalLM(config).bfloat16(), _tokenizer(), samples


def _tokenizer() -> Any:
    """Return a tokenizer whose pad token the programs can ask for; nothing is tokenised."""
    from rosd_kit.model.micro.tokenizer import build_tokenizer

    return build_tokenizer()


def _groups(
    count: int, *, vocabulary: int, prompt: int, solution: int, response: tuple[int, int], members: int = 8
) -> list[DistillSample]:
    """Return random samples of so many problems, the members of each with one prompt and one demonstration."""
    generator = torch.Generator().manual_seed(1)

    def ids(low: int, high: int) -> tuple[int, ...]:
        length = int(torch.randint(low, high, (1,), generator=generator))
        return tuple(torch.randint(3, vocabulary, (length,), generator=generator).tolist())

    samples = []
    for problem in range(count):
        asked, shown = ids(prompt, prompt + 1), ids(solution, solution + 1)
        for answer in [ids(*response) for _ in range(members)]:
            samples.append(
                DistillSample(
                    problem_id=str(problem),
                    prompt_ids=asked,
                    response_ids=answer,
                    behaviour_logprobs=(-10.8,) * len(answer),
                    token_weights=(1.0,) * len(answer),
                    teacher_views=(TeacherView(prompt_ids=asked + shown, source="solution"),),
                    reward=0.0,
                    success=False,
                    group_rewards=(0.0, 1.0),
                )
            )
    return samples


def padded(*common: Any) -> Callable[[], float]:
    """Return the same step with one text a row, to see what running nothing twice is worth."""
    return ours(*common, layout="padded")


def selective(model: Any, *common: Any) -> Callable[[], float]:
    """Return the same step with less memory: layers keep what is dear to compute, and chunks of logits are smaller."""
    from rosd_kit.model.activation_checkpointing import enable_checkpointing

    enable_checkpointing(model, selective=True)
    return ours(model, *common, chunk_mib=64)


def ours(
    model: Any, teacher: Any, tokenizer: Any, samples: list[DistillSample], tokens: int, **settings: Any
) -> Callable[[], float]:
    """Return a step of rosd-kit with the parts of `recipes/sdpo.yaml`, on micro-batches of so many tokens."""
    from rosd_kit.components.corrections import NoCorrection
    from rosd_kit.components.divergences import JSD
    from rosd_kit.components.objectives import Distill
    from rosd_kit.components.supports import StudentTopK
    from rosd_kit.settings import BatchSettings, OptimizerSettings
    from rosd_kit.training.optimizer import Optimizer
    from rosd_kit.training.step_loss import backward_step

    parts = LossParts(support=StudentTopK(), divergence=JSD(), correction=NoCorrection())
    samples = [replace(s, token_weights=(1.0 / len(s.response_ids),) * len(s.response_ids)) for s in samples]
    optimizer = Optimizer(model, OptimizerSettings(lr=LR, warmup_steps=0), steps=1000)

    def step() -> float:
        model.train()
        report = backward_step(
            student=model,
            teacher_models=(TeacherModel(teacher),),
            samples=samples,
            objectives=(WeightedObjective(Distill(parts=parts)),),
            settings=BatchSettings(tokens=tokens, **settings),
            pad_id=tokenizer.pad_token_id,
        )
        optimizer.step(report.loss)
        return report.loss

    return step


def trl_lean(*common: Any) -> Callable[[], float]:
    """Return the step of SDPOTrainer with gradient checkpointing."""
    return trl(*common, checkpointing=True)


def trl(
    model: Any, teacher: Any, tokenizer: Any, samples: list[DistillSample], size: int, checkpointing: bool = False
) -> Callable[[], float]:
    """Return a step of SDPOTrainer on micro-batches of `size` samples; its own generation is not called."""
    from datasets import Dataset
    from trl.experimental.sdpo import SDPOConfig, SDPOTrainer

    if checkpointing:  # which the trainer would do when its own loop begins
        getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
    config = SDPOConfig(
        output_dir=tempfile.mkdtemp(),
        report_to="none",
        use_cpu=model.device.type == "cpu",
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
    batches = [
        {name: value.to(model.device) for name, value in _as_tensors(samples[i : i + size], tokenizer.pad_token_id).items()}
        for i in range(0, len(samples), size)
    ]

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


def program(name: str, model: Any, tokenizer: Any, samples: list[DistillSample], device: str) -> Callable[[], float]:
    """Return a step of `ours-<tokens>` or `trl-<samples>`, or of a variant, by the size of a micro-batch, on copies."""
    student, teacher = (copy.deepcopy(model).to(device) for _ in range(2))
    teacher.requires_grad_(False).eval()
    make, size = name.split("-")
    makers = {"ours": ours, "selective": selective, "padded": padded, "trl": trl, "trl_lean": trl_lean}
    return makers[make](student, teacher, tokenizer, samples, int(size))


def measure(which: str, repeats: int) -> dict[str, Any]:
    """Time all programs in turns."""
    model, tokenizer, samples = model_and_samples(which)
    steps = {name: program(name, model, tokenizer, samples, "cpu") for name in SIZES[which]}
    losses = {name: step() for name, step in steps.items()}
    times = take_turns(steps, repeats=repeats)
    return {
        "tokens": _tokens(samples),
        "losses": losses,
        "seconds": {name: time.to_json() for name, time in times.items()},
    }


def alone(which: str, name: str, repeats: int, device: str) -> dict[str, Any]:
    """Run one program in a process of its own: its seconds, and the most that a step holds beyond models, data and moments.

    A first step is left out, at the end of which AdamW's moments are made; a last one is for the memory alone. On a CPU that
    is counted tensor by tensor, for what the process has from the system differs by more than the embedded model needs.
    """
    model, tokenizer, samples = model_and_samples(which)
    step = program(name, model, tokenizer, samples, device)
    loss = step()
    seconds = []
    for _ in range(repeats):
        began = clock(device)
        step()
        seconds.append(clock(device) - began)
    times = Times(statistics.median(seconds), min(seconds), max(seconds))
    return {"mib": _held(step, device), "loss": loss, "seconds": times.to_json(), "tokens": _tokens(samples)}


def _held(step: Callable[[], float], device: str) -> float:
    """Return the MiB that a step makes and holds at its peak, gradients included."""
    if device == "cuda":
        with PeakMemory(device) as seen:
            step()
        return seen.bytes / 2**20
    with LiveMemory() as counted:
        step()
    return counted.peak / 2**20


def _tokens(samples: Sequence[DistillSample]) -> int:
    """Count the samples' tokens, prompts included."""
    return sum(len(s.prompt_ids) + len(s.response_ids) for s in samples)


def _in_turns(which: str, repeats: int) -> dict[str, Any]:
    """Time the programs in one process, where there is room for all, and take their memory in fresh ones."""
    found = in_fresh_process(SCRIPT, {"model": which, "repeats": repeats})
    if "failed" in found:
        raise SystemExit(f"{which}: {found['failed']}")
    task = {"model": which, "repeats": 1, "device": "cpu"}
    peaks = {name: in_fresh_process(SCRIPT, {**task, "program": name}) for name in SIZES[which]}
    return {**found, "memory": {name: {"mib": peak["mib"]} for name, peak in peaks.items()}}


def _one_by_one(which: str, names: Sequence[str], repeats: int, device: str) -> dict[str, Any]:
    """Measure each program in a process of its own, for several large models at a time would not fit; leave out what fails."""
    task = {"model": which, "repeats": repeats, "device": device}
    tried = {name: in_fresh_process(SCRIPT, {**task, "program": name}) for name in names}
    for name, run in tried.items():
        if "failed" in run:
            print(f"{which} {name}: {run['failed']}")
    runs = {name: run for name, run in tried.items() if "failed" not in run}
    if not runs:
        raise SystemExit(f"{which}: no program could be measured")
    return {
        "tokens": next(iter(runs.values()))["tokens"],
        "losses": {name: run["loss"] for name, run in runs.items()},
        "seconds": {name: run["seconds"] for name, run in runs.items()},
        "memory": {name: {"mib": run["mib"]} for name, run in runs.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=tuple(ON), default="cpu")
    parser.add_argument("--models", nargs="+", choices=tuple(SIZES), help="those of the device, if left out")
    parser.add_argument("--programs", nargs="+", help="only these of a shape's, as ours-1024 or trl-2")
    parser.add_argument("--repeats", type=int, default=5, help="steps that are timed, after one that is not")
    parser.add_argument("--task", type=json.loads, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.task is not None:
        task = asked.task
        if "program" in task:
            found = alone(task["model"], task["program"], task["repeats"], task["device"])
        else:
            found = measure(task["model"], task["repeats"])
        print(json.dumps(found))
        return
    for which in asked.models or ON[asked.device]:
        turns = which == "micro" and asked.device == "cpu"
        names = asked.programs or SIZES[which]
        found = _in_turns(which, asked.repeats) if turns else _one_by_one(which, names, asked.repeats, asked.device)
        losses = list(found["losses"].values())
        if max(losses) > 1.001 * min(losses) + 1e-7:
            raise SystemExit(f"{which}: the programs do not do the same work, their losses are {found['losses']}")
        row = {"model": which, "machine": machine(asked.device), "repeats": asked.repeats, **found}
        with (RESULTS / f"step-{asked.device}.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        for name, time in found["seconds"].items():
            speed = found["tokens"] / time["median"]
            print(f"{which} {name}: {speed:.0f} tokens/s, loss {found['losses'][name]:.6f}, {found['memory'][name]}")


if __name__ == "__main__":
    main()
