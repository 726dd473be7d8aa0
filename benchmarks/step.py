"""Benchmarks a full SDPO step, from given rollouts to updated weights, against TRL 1.16's SDPOTrainer.

    python benchmarks/step.py                  # the CPU models; writes results/step-cpu.jsonl
    python benchmarks/step.py --models micro
    python benchmarks/step.py --device cuda    # the shape of Qwen3-1.7B in bfloat16; writes step-cuda.jsonl

Both train the same weights on the same rollouts with the same teacher prompts, by JSD 0.5 on the top-100 and a tail: student
forward and backward, teacher forward, clipping, AdamW. Both run with several micro-batch sizes, and in a low-memory variant:
`selective` is ours with `gradient_checkpointing: selective` and chunks of 64 MiB; `trl_lean` is TRL with gradient
checkpointing, its default. TRL averages over tokens and then over samples, so ours weights each token by 1 / its response's
length. The benchmark fails if the losses differ by more than 0.1 % (and 1e-7).

`micro` and `smollm2-135m` train on the samples of the first step of the recipe `sdpo`, the latter with the profile `smol`,
temperature 1 and up to 128 tokens. The `-random` models have random weights and responses, so no two rollouts share a response
token: the worst case for a trainer that computes shared prefixes once.
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
    "smollm2-135m": ("ours-1024", "selective-384", "selective-512", "trl-1", "trl_lean-1"),
    "smollm2-135m-random": ("ours-1024", "selective-640", "trl-1", "trl_lean-1"),
    "qwen3-1.7b-random": ("ours-4096", "ours-16384", "trl-1", "trl-2", "trl-4", "trl-8"),
}
ON = {"cpu": ("micro", "smollm2-135m", "smollm2-135m-random"), "cuda": ("qwen3-1.7b-random",)}
SMOL = ("group_size=8", "sampling.temperature=1", "sampling.max_new_tokens=128")
LR = 1e-5


def model_and_samples(name: str) -> tuple[Any, Any, list[DistillSample]]:
    """Return a model, its tokenizer and the samples of one step; the same in every process."""
    makers = {
        "micro": lambda: _first_step([], None, multiple=32),
        "smollm2-135m": lambda: _first_step(SMOL, "smol", multiple=4),
        "smollm2-135m-random": _smollm2,
        "qwen3-1.7b-random": _qwen3,
    }
    return makers[name]()


def _first_step(changes: Sequence[str], profile: str | None, multiple: int) -> tuple[Any, Any, list[DistillSample]]:
    """Return the training samples of the first step of the recipe `sdpo`, cut to a multiple of `multiple`.

    This fills TRL's micro-batches: TRL averages their means, which would differ from the mean over samples if one were smaller.
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
    pipeline = Pipeline.of(recipe, components, student)
    problems = components.task.train_batch(step=0, count=recipe.problems_per_step, seed=recipe.seed)
    samples = pipeline.step(problems, 0).samples
    return student.model, student.tokenizer, list(samples[: len(samples) // multiple * multiple])


def _smollm2() -> tuple[Any, Any, list[DistillSample]]:
    """Return one group: a prompt of 150 tokens, one demonstration of 150 tokens, responses of 60 to 250 tokens."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49_152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, tie_word_embeddings=True, max_position_embeddings=8192, pad_token_id=0,
    )  # fmt: skip
    return (
        LlamaForCausalLM(config),
        _tokenizer(),
        random_groups(1, vocabulary=49_152, prompt=150, solution=150, response=(60, 250)),
    )


def _qwen3() -> tuple[Any, Any, list[DistillSample]]:
    """Return four groups: prompts of 300 tokens, one demonstration of 600 tokens each, responses of 300 to 1,500 tokens."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=151_936, hidden_size=2048, intermediate_size=6144, num_hidden_layers=28, num_attention_heads=16,
        num_key_value_heads=8, head_dim=128, tie_word_embeddings=True, max_position_embeddings=8192, pad_token_id=0,
    )  # fmt: skip
    samples = random_groups(4, vocabulary=151_936, prompt=300, solution=600, response=(300, 1500))
    return Qwen3ForCausalLM(config).bfloat16(), _tokenizer(), samples


def _tokenizer() -> Any:
    """Return a tokenizer for its pad token; nothing is tokenised."""
    from rosd_kit.model.micro.tokenizer import build_tokenizer

    return build_tokenizer()


def random_groups(
    count: int, *, vocabulary: int, prompt: int, solution: int, response: tuple[int, int], members: int = 8
) -> list[DistillSample]:
    """Return random samples of `count` groups; the members of a group share a prompt and a demonstration."""
    generator = torch.Generator().manual_seed(1)

    def ids(low: int, high: int) -> tuple[int, ...]:
        length = int(torch.randint(low, high, (1,), generator=generator))
        return tuple(torch.randint(3, vocabulary, (length,), generator=generator).tolist())

    samples = []
    for problem in range(count):
        prompt_ids, solution_ids = ids(prompt, prompt + 1), ids(solution, solution + 1)
        for answer in [ids(*response) for _ in range(members)]:
            samples.append(
                DistillSample(
                    problem_id=str(problem),
                    prompt_ids=prompt_ids,
                    response_ids=answer,
                    behaviour_logprobs=(-10.8,) * len(answer),
                    token_weights=(1.0,) * len(answer),
                    teacher_views=(TeacherView(prompt_ids=prompt_ids + solution_ids, source="solution"),),
                    reward=0.0,
                    success=False,
                    group_rewards=(0.0, 1.0),
                )
            )
    return samples


def padded(*common: Any) -> Callable[[], float]:
    """Return our step with one sequence per row, to measure the gain from shared prefixes."""
    return ours(*common, layout="padded")


def selective(model: Any, *common: Any) -> Callable[[], float]:
    """Return our step with less memory: selective activation checkpointing and smaller chunks of logits."""
    from rosd_kit.model.activation_checkpointing import enable_checkpointing

    enable_checkpointing(model, selective=True)
    return ours(model, *common, chunk_mib=64)


def ours(
    model: Any, teacher: Any, tokenizer: Any, samples: list[DistillSample], tokens: int, **settings: Any
) -> Callable[[], float]:
    """Return a step of rosd-kit with the components of `recipes/sdpo.yaml`, on micro-batches of `tokens` tokens."""
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
    """Return a step of SDPOTrainer with gradient checkpointing."""
    return trl(*common, checkpointing=True)


def trl(
    model: Any, teacher: Any, tokenizer: Any, samples: list[DistillSample], size: int, checkpointing: bool = False
) -> Callable[[], float]:
    """Return a step of SDPOTrainer on micro-batches of `size` samples, without its generation."""
    from datasets import Dataset
    from trl.experimental.sdpo import SDPOConfig, SDPOTrainer

    if checkpointing:  # the trainer does this at the start of its own loop
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
        teacher_model_kind="live",  # replaced by the shared teacher below
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
    """Return the samples as TRL's trainer stores them: prompts padded on the left, completions on the right."""
    prompt_ids, prompt_mask = _padded([s.prompt_ids for s in samples], pad, left=True)
    completion_ids, completion_mask = _padded([s.response_ids for s in samples], pad, left=False)
    teacher_ids, teacher_mask = _padded([s.teacher_views[0].prompt_ids for s in samples], pad, left=True)
    return {
        "prompt_ids": prompt_ids,
        "prompt_mask": prompt_mask,
        "completion_ids": completion_ids,
        "completion_mask": completion_mask,
        "teacher_input_ids": torch.cat([teacher_ids, completion_ids], dim=1),
        "teacher_attention_mask": torch.cat([teacher_mask, completion_mask], dim=1),
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
    """Return a step of `ours-TOKENS`, `trl-SAMPLES` or a variant, on copies of the model; sizes are per micro-batch."""
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
    """Run one program in this process; return its seconds and its peak memory without models, data and optimizer moments.

    The first step is not counted, since it creates AdamW's moments; the last one only measures memory. On a CPU, memory is
    counted tensor by tensor, since the process's memory varies by more than the embedded model needs.
    """
    model, tokenizer, samples = model_and_samples(which)
    step = program(name, model, tokenizer, samples, device)
    loss = step()
    seconds = []
    for _ in range(repeats):
        start = clock(device)
        step()
        seconds.append(clock(device) - start)
    times = Times(statistics.median(seconds), min(seconds), max(seconds))
    return {"mib": _peak_mib(step, device), "loss": loss, "seconds": times.to_json(), "tokens": _tokens(samples)}


def _peak_mib(step: Callable[[], float], device: str) -> float:
    """Return the MiB that a step allocates at its peak, including gradients."""
    if device == "cuda":
        with PeakMemory(device) as peak:
            step()
        return peak.bytes / 2**20
    with LiveMemory() as memory:
        step()
    return memory.peak / 2**20


def _tokens(samples: Sequence[DistillSample]) -> int:
    """Return the number of tokens in the samples, including prompts."""
    return sum(len(s.prompt_ids) + len(s.response_ids) for s in samples)


def _in_turns(which: str, repeats: int) -> dict[str, Any]:
    """Time the programs in turns in one process, which must fit them all, and measure their memory in fresh processes."""
    result = in_fresh_process(SCRIPT, {"model": which, "repeats": repeats})
    if "failed" in result:
        raise SystemExit(f"{which}: {result['failed']}")
    task = {"model": which, "repeats": 1, "device": "cpu"}
    peaks = {name: in_fresh_process(SCRIPT, {**task, "program": name}) for name in SIZES[which]}
    return {**result, "memory": {name: {"mib": peak["mib"]} for name, peak in peaks.items()}}


def _one_by_one(which: str, names: Sequence[str], repeats: int, device: str) -> dict[str, Any]:
    """Measure each program in a fresh process, since several large models would not fit in one; skip programs that fail."""
    task = {"model": which, "repeats": repeats, "device": device}
    results = {name: in_fresh_process(SCRIPT, {**task, "program": name}) for name in names}
    for name, run in results.items():
        if "failed" in run:
            print(f"{which} {name}: {run['failed']}")
    runs = {name: run for name, run in results.items() if "failed" not in run}
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
    parser.add_argument("--models", nargs="+", choices=tuple(SIZES), help="default: those of the device")
    parser.add_argument("--programs", nargs="+", help="only these programs, for example ours-1024 or trl-2")
    parser.add_argument("--repeats", type=int, default=5, help="timed steps, after one warm-up step")
    parser.add_argument("--task", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.task is not None:
        task = args.task
        if "program" in task:
            result = alone(task["model"], task["program"], task["repeats"], task["device"])
        else:
            result = measure(task["model"], task["repeats"])
        print(json.dumps(result))
        return
    for which in args.models or ON[args.device]:
        turns = which == "micro" and args.device == "cpu"
        names = args.programs or SIZES[which]
        result = _in_turns(which, args.repeats) if turns else _one_by_one(which, names, args.repeats, args.device)
        losses = list(result["losses"].values())
        if max(losses) > 1.001 * min(losses) + 1e-7:
            raise SystemExit(f"{which}: the programs compute different losses: {result['losses']}")
        row = {"model": which, "machine": machine(args.device), "repeats": args.repeats, **result}
        with (RESULTS / f"step-{args.device}.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
        for name, time in result["seconds"].items():
            speed = result["tokens"] / time["median"]
            print(f"{which} {name}: {speed:.0f} tokens/s, loss {result['losses'][name]:.6f}, {result['memory'][name]}")


if __name__ == "__main__":
    main()
