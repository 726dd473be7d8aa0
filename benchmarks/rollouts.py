"""Rollouts of both engines and the ways of weights to an SGLang server, side by side in one run.

    python benchmarks/rollouts.py --python .sglang/bin/python      # two models on a CPU; writes results/rollouts-cpu.jsonl
    python benchmarks/rollouts.py --python PYTHON --device cuda --model PATH --dtype bfloat16

Rollouts: all requests of the first step of `recipes/rosd.yaml` at once (16 problems x 8, temperature 1). The engines draw
with other numbers, so a speed is the tokens that came back, per second. The server forgets its prefixes before each turn,
as it does when new weights arrive. Weights: one `sync` of an engine, from the trainer's weights to a server that wears the
new label. Models: the embedded one, and a random Llama of 138 million weights, whose responses nearly all reach the limit.
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
from rosd_kit.settings import ModelSettings
from rosd_kit.sglang.launch import launch_commands
from rosd_kit.sglang.options import Launch
from rosd_kit.sglang.server import ServerProcess
from rosd_kit.types import GenerateRequest, Sampling

RESULTS = Path(__file__).parent / "results"
WAYS = ("disk", "tensor", "distributed")
PROBED = "disk, with the probe"


def random_llama(folder: Path) -> str:
    """Write a random model that SGLang serves, with the embedded model's tokenizer; return where."""
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
    """Return what the recipe `rosd` asks for in its first step."""
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


def start(engine: RolloutEngine, student: Student, folder: Path, held: ExitStack) -> RolloutEngine:
    """Start an engine that is closed at the end."""
    engine.start(student, Site(folder))
    held.callback(engine.close)
    return engine


def sampled(engine: RolloutEngine, requests: Sequence[GenerateRequest], forget: Callable[[], object]) -> tuple[Step, list[int]]:
    """Return a step that has all requests answered, and the numbers of tokens that came of it, turn by turn."""
    counts: list[int] = []

    def step() -> None:
        forget()
        counts.append(sum(len(completion.token_ids) for completion in engine.generate(requests)))

    return step, counts


def synced(engine: RolloutEngine, student: Student) -> Step:
    """Return a step that brings the student's weights to the server under a new label."""
    versions = itertools.count(1)
    return lambda: engine.sync(student, next(versions))


def measure(name: str, path: str, asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Launch one server for a model and take the programs in turns."""
    student = Student.load(ModelSettings(path=path, device=asked.device, dtype=asked.dtype), keep_initial=False)
    launch = Launch(python=asked.python, args=asked.args, env=asked.env)
    (command,) = launch_commands(student, launch, folder=folder, colocated=False, api_key=None)
    with ExitStack() as held:
        server = ServerProcess(command, folder / f"{name}.log")
        held.callback(server.stop)
        server.start()

        def engine(**options: Any) -> RolloutEngine:
            options = {"check": {"every": 0, "probe": False}, **options}
            config = SGLangEngine.Config(url=command.url, patience=900, timeout=1800, **options)
            return start(SGLangEngine(config), student, folder, held)

        def forget() -> None:
            urllib.request.urlopen(urllib.request.Request(f"{command.url}/flush_cache", method="POST")).close()

        live = engine()
        requests = first_requests(student)
        programs = {
            "transformers": sampled(start(TransformersEngine(), student, folder, held), requests, lambda: None),
            "sglang": sampled(live, requests, forget),
        }
        rollouts = take_turns({who: step for who, (step, _) in programs.items()}, repeats=asked.repeats, device=asked.device)
        transfers, failed = {PROBED: synced(engine(check={"every": 0, "probe": True}), student)}, {}
        for way in WAYS:
            try:
                transfers[way] = synced(engine(sync=way), student)
            except EngineError as error:
                failed[way] = str(error)[:400]
        syncs = take_turns(transfers, repeats=asked.repeats, device=asked.device)
        with urllib.request.urlopen(f"{command.url}/server_info") as told:
            version = json.load(told)["version"]
    return {
        "model": name,
        "machine": machine(asked.device),
        "sglang": version,
        "dtype": asked.dtype,
        "parameters": sum(weight.numel() for weight in student.model.parameters()),
        "bytes": sum(weight.nbytes for weight in student.model.parameters()),
        "requests": len(requests),
        "tokens": {who: statistics.median(counts[1:]) for who, (_, counts) in programs.items()},
        "rollouts": {who: times.to_json() for who, times in rollouts.items()},
        "sync": {way: times.to_json() for way, times in syncs.items()},
        **({"failed": failed} if failed else {}),
    }


def show(row: dict[str, Any]) -> str:
    """Return what was measured as two tables."""
    speeds = [
        [who, f"{row['tokens'][who]:,.0f}", f"{times['median']:.2f}", f"{row['tokens'][who] / times['median']:,.0f}"]
        for who, times in row["rollouts"].items()
    ]
    size = row["bytes"] / 1e9
    ways = [[way, f"{times['median']:.3f}", f"{times['median'] / size:.1f}"] for way, times in row["sync"].items()]
    ways += [[way, why, ""] for way, why in row.get("failed", {}).items()]
    told = f"{row['model']}, {size:.4f} GB. SGLang {row['sglang']}, {row['machine']}"
    tables = table(["engine", "tokens", "seconds", "tokens/s"], speeds), table(["way", "seconds", "seconds/GB"], ways)
    return "\n\n".join([told, *tables, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", required=True, help="interpreter that has SGLang")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--model", help="folder or hub name, in place of the two models")
    parser.add_argument("--args", type=json.loads, default={}, help='of the server, as in rollout.launch.args: {"tp_size": 2}')
    parser.add_argument("--env", type=json.loads, default={}, help='of the server: {"CUDA_VISIBLE_DEVICES": "1"}')
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as out:
        models = {Path(asked.model).name: asked.model} if asked.model else {"micro": "micro", "llama-138m": ""}
        for name, path in models.items():
            row = measure(name, path or random_llama(Path(out) / name), asked, Path(out))
            with (RESULTS / f"rollouts-{asked.device}.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(show(row))


if __name__ == "__main__":
    main()
