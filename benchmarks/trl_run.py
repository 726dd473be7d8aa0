"""Times whole steps of SDPO on the embedded model, own sampling included, against TRL's SDPOTrainer.

    python benchmarks/trl_run.py               # writes results/trl_run-cpu.jsonl; some ten minutes

Each program runs as its users run it, in a fresh process and in turns: `rosd-kit run sdpo` and `SDPOTrainer.train()`. Both
sample 16 problems of the same task 8 times at the same temperature and length limit, judge the responses with the same
verifier, show an EMA teacher the first successful other response, and train by JSD 0.5 on the top 100 and a tail. TRL's prompts
for the teacher are the plain demonstration, in words that the model knows; `trl-N` runs micro-batches of N samples.

The recipe leaves out groups that are all right (`ours`); TRL trains on every sample that has another, right one, and so does
`ours-all`, with which it is compared. The time of a step is the processor's, from the end of one step to the end of the next.
The first steps are left out. Responses differ, so what is compared is sampled tokens a second. Ends with `ratio X`: that of
`ours-all` over that of the faster size of TRL.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

from harness import in_fresh_process, machine

SCRIPT = Path(__file__)
RESULTS = Path(__file__).parent / "results"
PROBLEMS, GROUP, WARMUP_STEPS, LR = 16, 8, 2, 1e-5
PROGRAMS = ("ours", "ours-all", "trl-16", "trl-32")


def ours(steps: int, gate: str) -> dict[str, list[float]]:
    """Run the recipe `sdpo` with a gate; return the processor's seconds at the end of each step, and the tokens it sampled."""
    import rosd_kit

    ends, tokens = [], []

    @rosd_kit.hookimpl
    def rosd_kit_step_end(metrics: Any) -> None:
        ends.append(time.process_time())
        tokens.append(metrics["tokens/generate"])

    plugin = ModuleType("steps")
    vars(plugin).update(rosd_kit_api=2, rosd_kit_step_end=rosd_kit_step_end)
    overrides = [f"steps={steps}", f"problems_per_step={PROBLEMS}", f"group_size={GROUP}", f"optimizer.lr={LR}"]
    overrides += ["optimizer.warmup_steps=0", "evaluation.problems=0", "checkpoint.every=0", "model.device=cpu", f"gate={gate}"]
    with tempfile.TemporaryDirectory() as out:
        rosd_kit.train("sdpo", overrides=overrides, plugins=[plugin], out=out)
    return {"ends": ends, "tokens": tokens}


def trl(steps: int, size: int) -> dict[str, list[float]]:
    """Train by `SDPOTrainer` with micro-batches of `size` samples; return the same."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl.experimental.sdpo import SDPOConfig, SDPOTrainer

    from rosd_kit.model.student import Student
    from rosd_kit.plugins.manager import PluginManager
    from rosd_kit.recipe import build_components, load_recipe

    registry = PluginManager(selection="builtin").registry
    recipe = load_recipe("sdpo", ["model.device=cpu"], registry=registry)
    components = build_components(recipe, registry)
    student = Student.load(recipe.model, keep_initial=False)
    problems = [
        problem for step in range(steps) for problem in components.task.train_batch(step=step, count=PROBLEMS, seed=recipe.seed)
    ]
    by_id = {problem.id: problem for problem in problems}
    ends, tokens = [], [0.0]

    def reward(completions: Any, completion_ids: Any, problem: Any, **_: object) -> list[float]:
        tokens[-1] += sum(map(len, completion_ids))
        texts = [messages[-1]["content"] for messages in completions]
        return [float(components.verifier.verify(by_id[name], text).success) for name, text in zip(problem, texts, strict=True)]

    class Clock(TrainerCallback):
        def on_step_end(self, *args: object, **kwargs: object) -> None:
            ends.append(time.process_time())
            tokens.append(0.0)

    samples = PROBLEMS * GROUP
    with tempfile.TemporaryDirectory() as out:
        config = SDPOConfig(
            output_dir=out, report_to="none", use_cpu=True, bf16=False, gradient_checkpointing=False, save_strategy="no",
            logging_steps=1000, disable_tqdm=True, max_steps=steps, learning_rate=LR, lr_scheduler_type="constant",
            per_device_train_batch_size=size, gradient_accumulation_steps=samples // size, num_generations=GROUP,
            max_completion_length=recipe.sampling.max_new_tokens,
            temperature=recipe.sampling.temperature, top_k=0, shuffle_dataset=False,
            reprompt_template="{prompt}{solution}{feedback}", solution_template=" {successful_previous_attempt}",
            distillation_mode="topk_logits", distillation_topk=100, distillation_add_tail=True, distillation_alpha=0.5,
            teacher_model_kind="ema", teacher_update_rate=0.05,
        )  # fmt: skip
        data = Dataset.from_list([{"prompt": list(problem.messages), "problem": problem.id} for problem in problems])
        trainer = SDPOTrainer(
            model=student.model, args=config, train_dataset=data, processing_class=student.tokenizer, reward_funcs=reward,
            callbacks=[Clock()],
        )  # fmt: skip
        trainer.train()
    return {"ends": ends, "tokens": tokens[:steps]}


def summary(run: dict[str, list[float]]) -> dict[str, float]:
    """Return the median seconds of a step after the first ones, and the tokens that were sampled in a second."""
    seconds = [after - before for before, after in pairwise(run["ends"])][WARMUP_STEPS - 1 :]
    tokens = run["tokens"][WARMUP_STEPS:]
    return {
        "seconds": statistics.median(seconds),
        "tokens": statistics.median(tokens),
        "tokens_per_second": sum(tokens) / sum(seconds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--task", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.task is not None:
        name, _, size = arguments.task["program"].partition("-")
        steps = arguments.task["steps"]
        gate = "all" if size else "mixed_groups"
        print(json.dumps(ours(steps, gate) if name == "ours" else trl(steps, int(size))))
        return
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in PROGRAMS}
    for _ in range(arguments.turns):
        for name in PROGRAMS:
            run = in_fresh_process(SCRIPT, {"program": name, "steps": arguments.steps})
            if "failed" in run:
                raise SystemExit(f"{name}: {run['failed']}")
            runs[name].append(summary(run))
            print(name, {key: round(value, 3) for key, value in runs[name][-1].items()}, flush=True)
    row = {"machine": machine(), "steps": arguments.steps, "runs": runs}
    with (RESULTS / "trl_run-cpu.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")
    speeds = {name: statistics.median(run["tokens_per_second"] for run in turns) for name, turns in runs.items()}
    print(f"ratio {speeds['ours-all'] / max(speeds['trl-16'], speeds['trl-32']):.2f}")


if __name__ == "__main__":
    main()
