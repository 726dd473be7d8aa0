"""Runs every accepted extreme of every numeric option for real: each is refused by name, or two steps are done in time.

    python -m tests.faults.extremes                          # everything; continues where it was stopped
    python -m tests.faults.extremes sampling verifier.exact  # options whose names begin so
    python -m tests.faults.extremes --sample                 # what the slow tests try

Each case is a process of its own with a deadline and bounded memory. Outcomes are appended to `--out`, one JSON object per
line; a case that is there already is not run again. Options of the engine `sglang`, which needs servers, are only checked.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import pydantic

from rosd_kit.display import Display
from rosd_kit.errors import RosdError
from rosd_kit.options.config import is_numeric
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.plugins.registry import Registry
from rosd_kit.recipe import load_recipe
from rosd_kit.run import loop
from rosd_kit.settings import CoreSettings

#: The likeliest to hang first.
VALUES = (math.inf, 1e30, 0, 2**31, 1e-30, -1, 1, math.nan, -math.inf, 10**30)
SMALL = (
    *("steps=2", "problems_per_step=2", "group_size=2", "sampling.max_new_tokens=8", "checkpoint.every=1"),
    *("evaluation.problems=2", "evaluation.samples=1", "evaluation.every=1", "gate=all"),
)
BARE = ("reflector=none", "context=none", "localizer=full", "objective=[policy_gradient]")
#: What a component needs beside it, so that its options have an effect.
BESIDE = {
    "task.dataset": ("task.path=ROWS", 'task.prompt="{question}"', 'task.answer="{answer}"', "verifier=exact", *BARE),
    "reflector.rationale": ("localizer=full", "context=solution_and_idea", "model.unknown_tokens=1"),
    "verifier.reasoning_gym": ("task=reasoning_gym", "task.train=[{kind: chain_sum}]", "model.unknown_tokens=1", *BARE),
    "task.reasoning_gym": ("verifier=reasoning_gym", "task.train=[{kind: chain_sum}]", "model.unknown_tokens=1", *BARE),
    "verifier.by_suite": ("verifier.default=exact",),
    "rollout.sglang": (),
    "objective.policy_gradient": ("objective=policy_gradient",),
}
#: Options that say how much is worked on in all: the two steps are part of it.
TOTALS = ("steps",)
#: What once hung or ended in a traceback, and one option of each kind.
SAMPLE: tuple[tuple[str, float], ...] = (
    *((option, 2**31) for option in ("problems_per_step", "group_size", "evaluation.problems", "evaluation.samples")),
    *(
        ("model.lora.rank", 2**31),
        ("sampling.temperature", math.inf),
        ("optimizer.lr", 1e30),
        ("localizer.min_ratio", math.inf),
    ),
    *(("objective.0.temperature", 1e30), ("correction.cap", math.inf), ("seed", -1)),
    *(("task.train_problems", 2**31), ("verifier.deadline", 1e-30), ("sampling.top_k", 10**30)),
)
MEMORY = 8 << 30
#: A data set in the words of the laboratory, for `ROWS` among the overrides.
ROW = '{"question": "Start at 26 . Add 5 . What is the result ?", "answer": "31"}\n'


@dataclass(frozen=True)
class Case:
    """An option by its path in a recipe, the overrides that choose its component, and the value."""

    option: str
    beside: tuple[str, ...]
    value: float

    @property
    def override(self) -> str:
        return f"{self.option}={_written(self.value)}"


@dataclass(frozen=True)
class Outcome:
    """What became of a case: `refused`, `trained`, `checked`, or what must not be: `ended`, `traceback`, `hung`, `died`."""

    case: str
    outcome: str
    text: str
    seconds: float

    @property
    def is_bad(self) -> bool:
        return self.outcome not in ("refused", "trained", "checked")


def _written(value: float) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return {"inf": ".inf", "-inf": "-.inf", "nan": ".nan"}[str(value)]
    return str(value)


def numeric_options(model: type[pydantic.BaseModel], prefix: str) -> Iterator[str]:
    """Yield the dotted path of every numeric option, those of sections too."""
    for name, field in model.model_fields.items():
        if is_numeric(field.annotation):
            yield f"{prefix}{name}"
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, pydantic.BaseModel):
                yield from numeric_options(part, f"{prefix}{name}.")


def all_cases(registry: Registry) -> list[Case]:
    """Return every case: for each value the core settings, then the components by slot."""
    options = [(option, ()) for option in numeric_options(CoreSettings, "")]
    for kind, entries in registry.entries.items():
        for name, entry in entries.items():
            prefix = f"{kind}." if kind != "objective" else "objective.0."
            beside = (f"{kind}={name}" if kind != "objective" else f"objective=[{name}]", *BESIDE.get(f"{kind}.{name}", ()))
            options += [(option, beside) for option in numeric_options(entry.cls.Config, prefix)]
    return [Case(option, beside, value) for value in VALUES for option, beside in options]


def label(case: Case) -> str:
    """Return the case's name: the component if there is one, and the override."""
    return f"{case.beside[0]} {case.override}" if case.beside else case.override


def attempt(case: Case, manager: PluginManager, deadline: float) -> Outcome:
    """Run a case in a child process, which has the imports already, and return what became of it."""
    began = time.monotonic()
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        os.close(reader)
        _work(case, manager, writer, deadline)
    os.close(writer)
    said, ended = b"", False
    while time.monotonic() - began < deadline:
        if os.waitpid(child, os.WNOHANG)[0]:
            ended = True
            break
        time.sleep(0.02)
    if not ended:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    with open(reader, "rb") as pipe:
        os.set_blocking(reader, False)
        said = pipe.read() or b""
    outcome, text = json.loads(said) if said else ("died" if ended else "hung", "")
    return Outcome(label(case), outcome, text[:500], round(time.monotonic() - began, 1))


def _work(case: Case, manager: PluginManager, writer: int, deadline: float) -> None:
    """Do the child's work and end it."""
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(deadline), math.ceil(deadline) + 1))

    def end(outcome: str, text: str = "") -> None:
        os.write(writer, json.dumps((outcome, text[:2000])).encode())
        os.killpg(os.getpid(), signal.SIGKILL)

    try:
        with tempfile.TemporaryDirectory() as folder:
            try:
                _train(case, manager, Path(folder), end)
            except RosdError as error:
                is_named = case.option.rpartition(".")[2] in str(error)
                end("refused" if is_named else "ended", str(error))
            end("trained")
    except BaseException as error:
        end("traceback", f"{type(error).__name__}: {error}")


def _train(case: Case, manager: PluginManager, folder: Path, end: Callable[[str], None]) -> None:
    (folder / "rows.jsonl").write_text(ROW * 20)
    beside = (change.replace("ROWS", str(folder / "rows.jsonl")) for change in case.beside)
    recipe = load_recipe("rosd", [*SMALL, *beside, case.override], "micro", registry=manager.registry)
    if recipe.rollout.name == "sglang":
        end("checked")
    if case.option in TOTALS and recipe.steps > 2:
        step = loop.train_step

        def two_steps(run: loop.Run) -> None:
            step(run)
            if run.step == 2:
                end("trained")

        loop.train_step = two_steps
    loop.run_recipe(recipe, plugins=manager, out=folder, name="run", resume=None, display=Display())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("options", nargs="*", help="run only options whose names begin with one of these")
    parser.add_argument("--out", type=Path, default=Path("extremes.jsonl"))
    parser.add_argument("--deadline", type=float, default=60.0, help="seconds for a case")
    parser.add_argument("--sample", action="store_true", help="run only what the slow tests run")
    arguments = parser.parse_args()
    manager = PluginManager(selection="builtin")
    chosen = tuple(arguments.options)
    cases = [case for case in all_cases(manager.registry) if not chosen or label(case).startswith(chosen)]
    if arguments.sample:
        cases = [case for case in cases if (case.option, case.value) in SAMPLE]
    done = {line["case"]: Outcome(**line) for line in map(json.loads, arguments.out.open())} if arguments.out.exists() else {}
    outcomes = []
    for case in cases:
        outcome = done.get(label(case))
        if outcome is None:
            outcome = attempt(case, manager, arguments.deadline)
            with arguments.out.open("a") as file:
                file.write(json.dumps(asdict(outcome)) + "\n")
        outcomes.append(outcome)
        if outcome.is_bad:
            print(f"{outcome.outcome}: {outcome.case} ({outcome.seconds} s) {outcome.text}", flush=True)
    print(", ".join(f"{outcome} {count}" for outcome, count in Counter(each.outcome for each in outcomes).most_common()))
    sys.exit(any(outcome.is_bad for outcome in outcomes))


if __name__ == "__main__":
    main()
