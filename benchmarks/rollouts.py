"""Compares rollouts of both engines, and the transfers of weights to an SGLang server, side by side in one run.

    python benchmarks/rollouts.py --python .sglang/bin/python      # two models on a CPU; writes results/rollouts-cpu.jsonl
    python benchmarks/rollouts.py --python PYTHON --device cuda --model PATH --dtype bfloat16

Rollouts: all requests of the first step of `recipes/rosd.yaml` at once (16 problems x 8, temperature 1). The engines use
different random numbers, so speed is sampled tokens per second. The server's prefix cache is flushed before each turn, as after
new weights. Weights: one `sync` of an engine, from the trainer's weights until the server reports the new label. Models: the
embedded one, and a random Llama with 138 million parameters, nearly all of whose responses reach the length limit.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness import Step, machine, table, take_turns

from rosd_kit.components.rollouts import SGLangEngine, TransformersEngine
from rosd_kit.contracts import RolloutEngine, Site
from rosd_kit.errors import EngineError
from rosd_kit.model.student import Student
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import build_components, load_recipe
from rosd_kit.serving.server import ServerProcess
from rosd_kit.settings import ModelSettings
from rosd_kit.sglang.launch import launch_commands
from rosd_kit.sglang.options import Launch
from rosd_kit.types import GenerateRequest, Sampling

RESULTS = Path(__file__).parent / "results"
SYNCS = ("disk", "tensor", "distributed")
WITH_PROBE = "disk, with the probe"


def random_llama(folder: Path) -> str:
    """Write a random model that SGLang can serve, with the embedded model's tokenizer; return its path."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from rosd_kit.model.micro.tokenizer import build_tokenizer

    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    config = LlamaConfig(
        vocab_size=32_768, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12,
        num_key_value_heads=12, tie_word_embeddings=True, max_position_embeddings=2048,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def first_requests(student: Student) -> list[GenerateRequest]:
    """Return the requests of the first step of the recipe `rosd`."""
    registry = PluginManager(selection="builtin").registry
    recipe = load_recipe("rosd", registry=registry)
    task = build_components(recipe, registry).task
    problems = task.train_batch(step=0, count=recipe.problems_per_step, seed=recipe.seed)
    sampling = Sampling(temperature=recipe.sampling.temperature, max_new_tokens=recipe.sampling.max_new_tokens)
    prompts = [student.prompt_ids(problem.messages) for problem in problems]
    return [
        GenerateRequest(prompt_ids=prompt, sampling=sampling, seed=seed)
        for prompt in prompts
        for seed in range(recipe.group_size)
    ]


def start(engine: RolloutEngine, student: Student, folder: Path, stack: ExitStack) -> RolloutEngine:
    """Start an engine, to be closed with the stack."""
    engine.start(student, Site(folder))
    stack.callback(engine.close)
    return engine


def generate_step(
    engine: RolloutEngine, requests: Sequence[GenerateRequest], flush_cache: Callable[[], object]
) -> tuple[Step, list[int]]:
    """Return a step that answers all requests, and a list that collects the number of sampled tokens per turn."""
    counts: list[int] = []

    def step() -> None:
        flush_cache()
        counts.append(sum(len(completion.token_ids) for completion in engine.generate(requests)))

    return step, counts


def sync_step(engine: RolloutEngine, student: Student) -> Step:
    """Return a step that sends the student's weights to the server under a new label."""
    versions = itertools.count(1)
    return lambda: engine.sync(student, next(versions))


def measure(name: str, path: str, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Launch one server for a model, and time engines and transfers in turns."""
    student = Student.load(ModelSettings(path=path, device=arguments.device, dtype=arguments.dtype), keep_initial=False)
    launch = Launch(python=arguments.python, args=arguments.args, env=arguments.env)
    (command,) = launch_commands(student, launch, folder=folder, colocated=False, api_key=None)
    with ExitStack() as stack:
        server = ServerProcess(command, folder / f"{name}.log")
        stack.callback(server.stop)
        server.start()

        def engine(**options: Any) -> RolloutEngine:
            options = {"check": {"every": 0, "probe": False}, **options}
            config = SGLangEngine.Config(url=command.url, patience=900, timeout=1800, **options)
            return start(SGLangEngine(config), student, folder, stack)

        def flush_cache() -> None:
            urllib.request.urlopen(urllib.request.Request(f"{command.url}/flush_cache", method="POST")).close()

        sglang = engine()
        requests = first_requests(student)
        programs = {
            "transformers": generate_step(start(TransformersEngine(), student, folder, stack), requests, lambda: None),
            "sglang": generate_step(sglang, requests, flush_cache),
        }
        rollouts = take_turns(
            {name: step for name, (step, _) in programs.items()}, repeats=arguments.repeats, device=arguments.device
        )
        transfers, failed = {WITH_PROBE: sync_step(engine(check={"every": 0, "probe": True}), student)}, {}
        for sync in SYNCS:
            try:
                transfers[sync] = sync_step(engine(sync=sync), student)
            except EngineError as error:
                failed[sync] = str(error)[:400]
        syncs = take_turns(transfers, repeats=arguments.repeats, device=arguments.device)
        with urllib.request.urlopen(f"{command.url}/server_info") as response:
            version = json.load(response)["version"]
    return {
        "model": name,
        "machine": machine(arguments.device),
        "sglang": version,
        "dtype": arguments.dtype,
        "parameters": sum(weight.numel() for weight in student.model.parameters()),
        "bytes": sum(weight.nbytes for weight in student.model.parameters()),
        "requests": len(requests),
        "tokens": {engine: statistics.median(counts[1:]) for engine, (_, counts) in programs.items()},
        "rollouts": {engine: times.to_json() for engine, times in rollouts.items()},
        "sync": {sync: times.to_json() for sync, times in syncs.items()},
        **({"failed": failed} if failed else {}),
    }


def show(row: dict[str, Any]) -> str:
    """Return the measurements as two tables."""
    speeds = [
        [engine, f"{row['tokens'][engine]:,.0f}", f"{times['median']:.2f}", f"{row['tokens'][engine] / times['median']:,.0f}"]
        for engine, times in row["rollouts"].items()
    ]
    size = row["bytes"] / 1e9
    syncs = [[sync, f"{times['median']:.3f}", f"{times['median'] / size:.1f}"] for sync, times in row["sync"].items()]
    syncs += [[sync, error, ""] for sync, error in row.get("failed", {}).items()]
    title = f"{row['model']}, {size:.4f} GB. SGLang {row['sglang']}, {row['machine']}"
    tables = table(["engine", "tokens", "seconds", "tokens/s"], speeds), table(["sync", "seconds", "seconds/GB"], syncs)
    return "\n\n".join([title, *tables, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="interpreter that has SGLang")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--model", help="folder or hub name, instead of the two models")
    parser.add_argument(
        "--args", type=json.loads, default={}, help='arguments of the server, as in rollout.launch.args: {"tp_size": 2}'
    )
    parser.add_argument("--env", type=json.loads, default={}, help='environment of the server: {"CUDA_VISIBLE_DEVICES": "1"}')
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as out:
        models = {Path(arguments.model).name: arguments.model} if arguments.model else {"micro": "micro", "llama-138m": ""}
        for name, path in models.items():
            row = measure(name, path or random_llama(Path(out) / name), arguments, Path(out))
            with (RESULTS / f"rollouts-{arguments.device}.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(show(row))


if __name__ == "__main__":
    main()
