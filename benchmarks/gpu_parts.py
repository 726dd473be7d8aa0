"""What `gpu.py` measures: one function for each part, which yields its rows as it measures them.

Every function takes a `Scale`, which says whether to use the sizes of a card or toy sizes on the CPU, and the folder of a
model, which only `model` needs. Knows nothing of limits, processes and files of results.
"""

from __future__ import annotations

import gc
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import coin_verifier
import gpu_models
import torch
from gpu_attention import attention
from harness import PeakMemory, clock, machine, take_turns, wall_clock

ROOT = Path(__file__).resolve().parent.parent
Rows = Iterator[dict[str, Any]]

__all__ = ["attention", "gaps", "laboratory", "loss", "model", "server", "step", "tests", "train", "versions"]


@dataclass(frozen=True)
class Scale:
    """Sizes: those of a card, or toy ones for a rehearsal on the CPU."""

    rehearse: bool

    @property
    def device(self) -> str:
        """`cuda`, or `cpu` in a rehearsal."""
        return "cpu" if self.rehearse else "cuda"

    @property
    def dtype(self) -> str:
        """The precision of training on a card; a rehearsal uses it too."""
        return "bfloat16"


def versions(scale: Scale, _: str) -> Rows:
    """What is installed, what `doctor` says, and how fast large matrix products and copies are."""
    import transformers
    from phases import matmul_rate

    row = {"python": sys.version.split()[0], "torch": torch.__version__, "transformers": transformers.__version__}
    if not scale.rehearse:
        properties = torch.cuda.get_device_properties(0)
        row |= {
            "card": properties.name, "gib": round(properties.total_memory / 2**30, 1), "cuda": torch.version.cuda,
            "capability": ".".join(map(str, torch.cuda.get_device_capability())),
            "driver": _said(["nvidia-smi", "--query-gpu=driver_version,power.limit", "--format=csv,noheader"]),
        }  # fmt: skip
    yield row
    yield {"machine": machine(scale.device), "matmul_tflops": matmul_rate(scale.device) / 1e12, "copy_gbps": _copy_rate(scale)}
    doctor = subprocess.run([sys.executable, "-m", "rosd_kit", "doctor"], capture_output=True, text=True, cwd=ROOT)
    yield {"doctor": doctor.stdout.splitlines(), "exit": doctor.returncode}


def tests(scale: Scale, _: str) -> Rows:
    """The tests marked `gpu`, one row for each that did not pass; a rehearsal collects and skips them."""
    files = [str(file) for file in sorted(ROOT.glob("tests/**/test_*.py")) if "mark.gpu" in file.read_text()]
    command = [sys.executable, "-m", "pytest", "-o", "addopts=", "--import-mode=importlib", "-q", "-m", "gpu", "-rfEs", *files]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    lines = done.stdout.splitlines()
    yield from ({"not_passed": line} for line in lines if re.match(r"(FAILED|ERROR|SKIPPED) ", line))
    counts = re.findall(r"(\d+) (passed|failed|skipped|deselected|error)", lines[-1] if lines else "")
    yield {"exit": done.returncode, **{kind: int(count) for count, kind in counts}}
    if done.returncode not in (0, 5):
        raise SystemExit("\n".join(lines[-40:]) + done.stderr)


def loss(scale: Scale, _: str) -> Rows:
    """The loss alone at the heads of Qwen3-1.7B and 8B, against TRL's and Liger's where they are installed."""
    from loss import TOP, Case
    from phases import matmul_rate

    rate = matmul_rate(scale.device)
    sizes = [(32, 16)] if scale.rehearse else [(hidden, tokens) for tokens in (1024, 8192, 32_768) for hidden in (2048, 4096)]
    for hidden, tokens in sizes:
        for top in (0, TOP):
            case = Case(
                tokens=tokens, vocab=600 if scale.rehearse else 151_936, hidden=hidden, weighted=1.0, beta=0.5, top=top,
                device=scale.device, dtype=scale.dtype,
            )  # fmt: skip
            # The student's logits, the gradients of its states and head, and the teacher's logits.
            floor = 4 * 2 * tokens * hidden * case.vocab / rate
            for name in ("ours", *case.peers):
                yield {"case": asdict(case), "program": name, "floor_seconds": floor, **_loss_cell(name, case)}


def _loss_cell(name: str, case: Any) -> dict[str, Any]:
    """Return the seconds and the peak memory of one program, or why there are none."""
    from loss import program, tensors

    try:
        inputs = tensors(case)
        run = program(name, case, inputs)
        value, *_ = run()
        with PeakMemory(case.device) as peak:
            run()
        seconds = take_turns({name: run}, repeats=3, device=case.device)[name].to_json()
    except ImportError as error:
        return {"absent": str(error)}
    except torch.OutOfMemoryError:
        return {"failed": "out of memory"}
    except Exception as error:  # another project's program must not end the part
        if name == "ours":
            raise
        return {"failed": f"{type(error).__name__}: {error}"[:300]}
    finally:
        torch.cuda.empty_cache() if case.device == "cuda" else None
    return {"seconds": seconds, "peak_mib": peak.bytes / 2**20, "loss": value}


def train(scale: Scale, _: str) -> Rows:
    """A step of `sdpo` from given rollouts to new weights, at Qwen3-1.7B's shape: recomputation, and each kind of kernels."""
    import step as steps
    from phases import matmul_rate, matrix_parameters

    from rosd_kit.model.kernels import Kernels, apply_kernels

    programs: tuple[tuple[str, Kernels], ...] = (
        ("ours-4096", "plain"), ("ours-16384", "plain"), ("selective-16384", "plain"), ("trl-4", "plain"),
        ("selective-16384", "liger"), ("ours-4096", "compile"),
    )  # fmt: skip
    if scale.rehearse:
        programs = (("ours-256", "plain"), ("ours-256", "compile"))
    rate = matmul_rate(scale.device)
    for name, kernels in programs:
        needed = "trl" if name.startswith("trl") else "liger_kernel" if kernels == "liger" else None
        if needed is not None and find_spec(needed) is None:
            yield {"program": name, "kernels": kernels, "absent": f"{needed} is not installed"}
            continue
        model, tokenizer, samples = steps.model_and_samples("micro" if scale.rehearse else "qwen3-1.7b-random")
        backbone, head = matrix_parameters(model)
        apply_kernels(model.to(scale.device), kernels)
        try:
            run = steps.program(name, model, tokenizer, samples, scale.device)
            value = run()
            with PeakMemory(scale.device) as peak:
                run()
            times = take_turns({name: run}, repeats=2, device=scale.device)[name]
        except torch.OutOfMemoryError:
            yield {"program": name, "kernels": kernels, "failed": "out of memory"}
            continue
        tokens = sum(len(s.prompt_ids) + len(s.response_ids) for s in samples)
        seen = sum(len(s.teacher_views[0].prompt_ids) + len(s.response_ids) for s in samples)
        weighted = sum(len(s.response_ids) for s in samples)
        floor = (6 * backbone * tokens + 2 * backbone * seen + 8 * head * weighted) / rate
        yield {
            "program": name, "kernels": kernels, "loss": value, "seconds": times.to_json(), "tokens": tokens,
            "tokens_per_second": tokens / times.median, "floor_seconds": floor, "mfu": floor / times.median,
            "peak_mib": peak.bytes / 2**20,
        }  # fmt: skip
        del run, model


def step(scale: Scale, _: str) -> Rows:
    """Whole steps of `rosd` and `sdpo`, rollouts in process, on random weights of Qwen3's shapes: full training and LoRA."""
    shapes = ("toy",) if scale.rehearse else ("0.6b", "1.7b")
    for shape in shapes:
        with tempfile.TemporaryDirectory() as folder:
            path = gpu_models.write_qwen3(shape, Path(folder) / "model", scale.device)
            for recipe in ("rosd", "sdpo"):
                for lora in (False, True):
                    if lora and find_spec("peft") is None:
                        yield {"shape": shape, "recipe": recipe, "lora": lora, "absent": "peft is not installed"}
                        continue
                    yield {"shape": shape, "recipe": recipe, "lora": lora, **_step_cell(scale, recipe, path, lora)}


def _step_cell(scale: Scale, recipe: str, path: str, lora: bool) -> dict[str, Any]:
    """Return what the last of two steps took, phase by phase, beside the time of its products at the card's rate."""
    from phases import PHASES, floor_flops, matmul_rate, matrix_parameters

    from rosd_kit import train as run
    from rosd_kit.display import Display
    from rosd_kit.model.student import Student
    from rosd_kit.settings import ModelSettings

    sizes = (2, 4, 12, 16) if scale.rehearse else (8, 8, 128, 64)
    problems, group, answer, reflection = sizes
    overrides = [
        *("steps=2", f"problems_per_step={problems}", f"group_size={group}", f"sampling.max_new_tokens={answer}"),
        *(f"model.path={path}", f"model.dtype={scale.dtype}", f"model.device={scale.device}", "evaluation.problems=0"),
        *(
            "verifier=coin",
            "verifier.truncated=score",
            "checkpoint.every=0",
            "samples.every=0",
            "batch.tokens=16384",
            "optimizer.warmup_steps=0",
        ),
        *([f"reflector.max_new_tokens={reflection}"] if recipe == "rosd" else []),
        *(["model.lora.rank=16"] if lora else []),
    ]
    if scale.device == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    with tempfile.TemporaryDirectory() as out:
        done = run(recipe, overrides=overrides, plugins=[coin_verifier.__file__], out=out, display=Display())
        last = done.metrics[-1]
    settings = ModelSettings(path=path, device=scale.device, dtype=scale.dtype)
    backbone, head = matrix_parameters(Student.load(settings, keep_initial=False).model)
    rate = matmul_rate(scale.device, now=wall_clock)  # times in a run's metrics are not CPU times
    floors = {phase: flops / rate for phase, flops in floor_flops(last, backbone, head).items()}
    seconds = last["time/step"]
    return {
        "seconds": {"step": seconds, **{phase: last.get(f"time/{phase}", 0.0) for phase in PHASES}},
        "floor_seconds": {"step": sum(floors.values()), **floors},
        "mfu": sum(floors.values()) / seconds,
        "tokens": {name: last[name] for name in sorted(last) if name.startswith("tokens/")},
        "weighted_tokens": last["train/weighted_tokens"],
        "loss": last["train/loss"],
        "peak_mib": torch.cuda.max_memory_allocated() / 2**20 if scale.device == "cuda" else None,
    }


def gaps(scale: Scale, _: str) -> Rows:
    """How far bfloat16 moves log-probs: layouts against single sequences, and one precision against the other.

    These are the differences that the checks at loading and after a transfer of weights have to allow.
    """
    from rosd_kit.model.student import Student
    from rosd_kit.settings import ModelSettings

    with tempfile.TemporaryDirectory() as folder:
        shapes = ("toy",) if scale.rehearse else ("0.6b",)
        paths = {f"random {shape}": gpu_models.write_qwen3(shape, Path(folder) / shape, scale.device) for shape in shapes}
        for name, path in {"micro": "micro", **paths}.items():
            logprobs = {}
            for dtype in ("float32", "bfloat16"):
                student = Student.load(ModelSettings(path=path, dtype=dtype, device=scale.device), keep_initial=False)
                for mode in ("padded", "packed", "shared"):
                    yield {"model": name, "dtype": dtype, "layout": mode, **gpu_models.layout_gap(student.model, mode)}
                logprobs[dtype] = gpu_models.own_logprobs(student)
            yield {
                "model": name,
                "between": "bfloat16 and float32",
                **gpu_models.gap(logprobs["float32"], logprobs["bfloat16"]),
            }


def laboratory(scale: Scale, _: str) -> Rows:
    """The laboratory's main job, `rosd` on the embedded model, to its end or until its share of the time is used."""
    seconds = 900.0 if scale.rehearse else 65.0
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "rosd_kit", "run", "rosd", "--out", out, "--json", f"model.device={scale.device}"]
        command += ["steps=2", "problems_per_step=8", "group_size=4", "evaluation.problems=2"] if scale.rehearse else []
        events, code = _events(command, seconds)
    steps = [event["metrics"] for event in events if event["event"] == "step"]
    evaluations = [event for event in events if event["event"] == "evaluation"]
    if not steps:
        raise SystemExit(f"no step was finished (exit {code}): {events[-3:]}")
    yield {
        "exit": code, "steps": len(steps), "finished": any(event["event"] == "finish" for event in events),
        "step_seconds": sorted(step["time/step"] for step in steps)[len(steps) // 2],
        "evaluations": [{suite["suite"]: suite["mean"] for suite in event["results"]} for event in evaluations],
        "loss": [round(step["train/loss"], 6) for step in steps if "train/loss" in step],
    }  # fmt: skip


def server_python() -> str | None:
    """Return an interpreter that has SGLang: the one that ROSD_KIT_SGLANG_PYTHON names, or this one; None without any."""
    return os.environ.get("ROSD_KIT_SGLANG_PYTHON") or (sys.executable if find_spec("sglang") is not None else None)


def server(scale: Scale, _: str) -> Rows:
    """Two steps of `rosd` with an SGLang server on the same card, by each way of transferring weights, with its checks."""
    python = server_python()
    if python is None:
        yield {"absent": "SGLang is not installed; name an interpreter that has it with ROSD_KIT_SGLANG_PYTHON"}
        return
    with tempfile.TemporaryDirectory() as folder:
        path = gpu_models.write_qwen3("toy" if scale.rehearse else "0.6b", Path(folder) / "model", scale.device)
        for sync in ("tensor", "disk", "distributed"):
            yield {"sync": sync, **_server_cell(scale, python, path, sync, Path(folder) / sync)}


def _server_cell(scale: Scale, python: str, path: str, sync: str, out: Path) -> dict[str, Any]:
    problems, group, answer = (2, 4, 12) if scale.rehearse else (8, 8, 128)
    command = [
        *(sys.executable, "-m", "rosd_kit", "run", "rosd", "--out", str(out), "--json", "--plugin", coin_verifier.__file__),
        *("steps=2", f"problems_per_step={problems}", f"group_size={group}", f"sampling.max_new_tokens={answer}"),
        *(f"model.path={path}", f"model.dtype={scale.dtype}", f"model.device={scale.device}", "evaluation.problems=0"),
        *(
            "verifier=coin",
            "verifier.truncated=score",
            "rollout=sglang",
            f"rollout.sync={sync}",
            f"rollout.launch.python={python}",
        ),
        *(f"rollout.colocated={str(not scale.rehearse).lower()}", "checkpoint.every=0", "reflector.max_new_tokens=64"),
        *([] if scale.rehearse else ["rollout.launch.args.mem_fraction_static=0.4"]),
    ]
    events, code = _events(command, 240.0)
    steps = [event["metrics"] for event in events if event["event"] == "step"]
    kept = ("time/", "rollout/", "tokens/", "engine/", "train/loss", "train/engine_mismatch")
    metrics = {name: value for name, value in (steps[-1] if steps else {}).items() if name.startswith(kept)}
    return {"exit": code, "steps": len(steps), "metrics": metrics, **({} if code == 0 else {"said": events[-4:]})}


def model(scale: Scale, path: str) -> Rows:
    """Twenty steps of `rosd` on a model of one's own, with its diagnosis: what an owner of a card can report."""
    if not path:
        raise SystemExit("--only model needs --model PATH")
    python = server_python()
    steps, problems = (2, 2) if scale.rehearse else (20, 16)
    answer = 24 if scale.rehearse else 512
    with tempfile.TemporaryDirectory() as out:
        command = [
            *(sys.executable, "-m", "rosd_kit", "run", "rosd", "--out", out, "--json", f"model.path={path}", f"steps={steps}"),
            *(f"model.device={scale.device}", f"model.dtype={scale.dtype}", f"problems_per_step={problems}"),
            *(
                f"sampling.max_new_tokens={answer}",
                "sampling.max_prompt_tokens=1024",
                "sampling.max_teacher_prompt_tokens=4096",
            ),
            *("evaluation.problems=0", "samples.every=0", "checkpoint.every=0", "reflector.max_new_tokens=256"),
            *("optimizer.lr=1e-6", "batch.tokens=16384", "model.gradient_checkpointing=selective"),
            *(["task=reasoning_gym", "verifier=reasoning_gym"] if find_spec("reasoning_gym") else []),
        ]
        if python is not None and not scale.rehearse:
            command += ["rollout=sglang", "rollout.colocated=true", "rollout.sync=tensor", f"rollout.launch.python={python}"]
        events, code = _events(command, 840.0)
    for event in events:
        if event["event"] == "step":
            yield {"step": event["step"], "metrics": event["metrics"]}
    yield {"exit": code, **({} if code == 0 else {"said": events[-4:]})}


def _events(command: list[str], seconds: float) -> tuple[list[dict[str, Any]], int]:
    """Run a command that prints one JSON object a line, for so long; return the objects and its exit status."""
    began = time.monotonic()
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT)
    try:
        output, _ = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        child.terminate()  # saves a checkpoint
        output, _ = child.communicate()
    events: list[dict[str, Any]] = []
    for line in output.splitlines():
        try:
            events.append(json.loads(line))
        except ValueError:
            events.append({"event": "text", "text": line, "after": round(time.monotonic() - began)})
    return events, child.returncode


def _copy_rate(scale: Scale) -> float:
    """Return how many GB a second a copy on the device reads and writes."""
    source = torch.empty((1 << 20) if scale.rehearse else (1 << 30), dtype=torch.uint8, device=scale.device)
    target = torch.empty_like(source)
    copy: Callable[[], object] = lambda: [target.copy_(source) for _ in range(10)]  # noqa: E731
    copy()
    start = clock(scale.device)
    copy()
    return 20 * source.numel() / max(clock(scale.device) - start, 1e-9) / 1e9


def _said(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"not known: {error}"
