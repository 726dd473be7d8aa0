"""Benchmarks the loss alone, from hidden states to the gradients of hidden states and head, against TRL 1.16 and Liger.

    python benchmarks/loss.py                     # the CPU grid; writes benchmarks/results/loss-cpu.jsonl
    python benchmarks/loss.py --device cuda       # shapes of Qwen3-1.7B and 8B; writes loss-cuda.jsonl
    python benchmarks/report.py                   # updates benchmarks/RESULTS.md

All programs get the same tensors. They are timed in turns in one process. Memory is the peak of a fresh process, without the
inputs, the two heads and their gradients. Only this benchmark needs TRL and Liger: pip install trl==1.16.0 liger-kernel==0.8.5
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from harness import PeakMemory, clock, in_fresh_process, machine, take_turns
from torch import Tensor, nn

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks/results"
TOP = 100


@dataclass(frozen=True, kw_only=True)
class Case:
    """A point of the grid. `beta` 0 is forward KL and 0.5 the symmetric JSD; `top` 0 is the full vocabulary."""

    tokens: int
    vocab: int
    hidden: int
    weighted: float
    beta: float
    top: int
    device: str = "cpu"
    dtype: str = "float32"

    @property
    def peers(self) -> list[str]:
        """The other programs that compute the same loss."""
        return ["sdpo_top"] if self.top else ["trl_chunked", "sdpo_full", "gkd", "liger"]


@dataclass
class Tensors:
    """The inputs of a case; `mask` is true for tokens with weight."""

    student: Tensor
    teacher: Tensor
    student_head: nn.Linear
    teacher_head: nn.Linear
    mask: Tensor


def tensors(case: Case) -> Tensors:
    """Return random inputs that resemble training: peaked distributions, with the teacher close to the student."""
    torch.manual_seed(0)
    dtype = getattr(torch, case.dtype)

    def head() -> nn.Linear:
        return nn.Linear(case.hidden, case.vocab, bias=False, device=case.device, dtype=dtype)

    student_head, teacher_head = head(), head()
    with torch.no_grad():
        teacher_head.weight.copy_(student_head.weight)
        teacher_head.weight.requires_grad_(False)
        student_head.weight.mul_(4)
        teacher_head.weight.mul_(4)
    student = torch.randn(case.tokens, case.hidden, device=case.device, dtype=dtype)
    teacher = student + 0.2 * torch.randn_like(student)
    mask = torch.zeros(case.tokens, dtype=torch.bool)
    mask[torch.randperm(case.tokens)[: int(case.tokens * case.weighted)]] = True
    return Tensors(student.requires_grad_(), teacher, student_head, teacher_head, mask.to(case.device))


def program(name: str, case: Case, inputs: Tensors) -> Callable[[], tuple[float, Tensor, Tensor]]:
    """Return a step of one program, which returns the loss and the gradients of hidden states and head."""
    compute = PROGRAMS[name](case, inputs)

    def step() -> tuple[float, Tensor, Tensor]:
        inputs.student.grad = inputs.student_head.weight.grad = None
        loss = compute()
        loss.backward()
        return float(loss.detach()), inputs.student.grad, inputs.student_head.weight.grad

    return step


def ours(case: Case, inputs: Tensors) -> Callable[[], Tensor]:
    from rosd_kit.components.corrections import NoCorrection
    from rosd_kit.components.divergences import JSD, ForwardKL
    from rosd_kit.components.objectives import Distill
    from rosd_kit.components.supports import Full, StudentTopK
    from rosd_kit.contracts import LossParts, TeacherModel
    from rosd_kit.model.split import split_model
    from rosd_kit.recipe.built import WeightedObjective
    from rosd_kit.settings import BatchSettings
    from rosd_kit.training.chunked_loss import HeadLoss
    from rosd_kit.training.teacher import TeacherScorer
    from rosd_kit.training.token_weights import WeightedTokens

    parts = LossParts(
        support=StudentTopK(StudentTopK.Config(k=case.top)) if case.top else Full(),
        divergence=JSD(JSD.Config(beta=case.beta)) if case.beta else ForwardKL(),
        correction=NoCorrection(),
    )
    count = int(inputs.mask.sum())
    ones = torch.ones(count, dtype=torch.float64)
    tokens = WeightedTokens(
        sample=torch.zeros(count, dtype=torch.long),
        token=torch.arange(count),
        sampled=torch.zeros(count, dtype=torch.long),
        behaviour=-ones,
        old=-ones,
        views=torch.ones(count, dtype=torch.long),
        weights=ones[None],
        advantages=0 * ones[None],
        marks=torch.zeros(1, 0, count, dtype=torch.float64),
    )
    head = HeadLoss(
        student=split_model(_model_with(inputs.student_head)),
        teacher=TeacherScorer([TeacherModel(_model_with(inputs.teacher_head))], settings=BatchSettings(), pad_id=0, samples=()),
        terms=(WeightedObjective(Distill(parts=parts)),),
        factors=torch.tensor([1 / count], dtype=torch.float64),
        chunk_bytes=BatchSettings().chunk_mib << 20,
        temperature=1.0,
    )

    def compute() -> Tensor:
        loss, _ = head.differentiate(inputs.student[inputs.mask], [[inputs.teacher[inputs.mask]]], tokens)
        return loss

    return compute


def _model_with(head: nn.Linear) -> nn.Module:
    """Return a causal LM with this head; its backbone is not used."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    model = Qwen3ForCausalLM(Qwen3Config(vocab_size=8, hidden_size=8, num_hidden_layers=1, intermediate_size=8, head_dim=2))
    model.lm_head = head
    return model


def trl_chunked(case: Case, inputs: Tensors) -> Callable[[], Tensor]:
    from trl.trainer.distillation_trainer import _chunked_divergence_loss

    def compute() -> Tensor:
        student, teacher = inputs.student_head.weight, inputs.teacher_head.weight
        return _chunked_divergence_loss(
            inputs.student[None], inputs.teacher[None], student, teacher, inputs.mask[None], case.beta
        )[0]

    return compute


def gkd(case: Case, inputs: Tensors) -> Callable[[], Tensor]:
    from trl.experimental.gkd import GKDTrainer

    labels = torch.where(inputs.mask, 1, -100)[None]

    def compute() -> Tensor:
        logits = _both_logits(inputs)
        return GKDTrainer.generalized_jsd_loss(logits[0][None], logits[1][None], labels, beta=case.beta)

    return compute


def sdpo_full(case: Case, inputs: Tensors) -> Callable[[], Tensor]:
    from trl.experimental.sdpo.loss_utils import compute_full_logit_self_distillation_loss

    def compute() -> Tensor:
        per_token = compute_full_logit_self_distillation_loss(*_both_logits(inputs), distillation_alpha=case.beta)
        return _masked_mean(per_token, inputs.mask)

    return compute


def sdpo_top(case: Case, inputs: Tensors) -> Callable[[], Tensor]:
    from trl.experimental.sdpo.loss_utils import compute_topk_self_distillation_loss

    def compute() -> Tensor:
        per_token = compute_topk_self_distillation_loss(
            *_both_logits(inputs), distillation_topk=case.top, distillation_alpha=case.beta, distillation_add_tail=True
        )
        return _masked_mean(per_token, inputs.mask)

    return compute


def liger(case: Case, inputs: Tensors) -> Callable[[], Tensor]:
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    loss = LigerFusedLinearJSDLoss(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=case.beta, compiled=case.device == "cuda")
    labels = torch.where(inputs.mask, 0, -100)

    def compute() -> Tensor:
        return loss(inputs.student, inputs.student_head.weight, inputs.teacher, inputs.teacher_head.weight, labels)

    return compute


def _both_logits(inputs: Tensors) -> tuple[Tensor, Tensor]:
    """Return the logits of all tokens, as these losses receive them from the models."""
    with torch.no_grad():
        teacher = inputs.teacher_head(inputs.teacher)
    return inputs.student_head(inputs.student), teacher


def _masked_mean(per_token: Tensor, mask: Tensor) -> Tensor:
    return (per_token * mask).sum() / mask.sum()


PROGRAMS = {
    "ours": ours,
    "trl_chunked": trl_chunked,
    "gkd": gkd,
    "sdpo_full": sdpo_full,
    "sdpo_top": sdpo_top,
    "liger": liger,
}


def single(case: Case, name: str) -> dict[str, Any]:
    """Run one program once and return its loss, its seconds, and its peak memory in MiB without inputs, heads and gradients."""
    warm = Case(**{**asdict(case), "tokens": 16, "vocab": 512, "weighted": 1.0})
    program(name, warm, tensors(warm))()
    inputs = tensors(case)
    step = program(name, case, inputs)
    with PeakMemory(case.device) as peak:
        start = clock(case.device)
        loss, *_ = step()
        seconds = clock(case.device) - start
    floor = sum(p.numel() * p.element_size() for p in (inputs.student, inputs.student_head.weight))
    return {"mib": (peak.bytes - floor) / 2**20, "seconds": seconds, "loss": loss}


def timing(case: Case, names: list[str], repeats: int) -> dict[str, Any]:
    """Return the seconds of all programs, timed in turns, and the relative distance of their losses and gradients from ours."""
    inputs = tensors(case)
    steps = {name: program(name, case, inputs) for name in names}
    expected = steps["ours"]()
    gaps = {}
    for name in names:
        loss, hidden, head = steps[name]()
        gaps[name] = {
            "loss": abs(loss - expected[0]) / abs(expected[0]),
            "hidden": _gap(hidden, expected[1]),
            "head": _gap(head, expected[2]),
        }
    del expected, loss, hidden, head
    return {
        "seconds": {n: t.to_json() for n, t in take_turns(steps, repeats=repeats, device=case.device).items()},
        "gaps": gaps,
    }


def _gap(actual: Tensor, expected: Tensor) -> float:
    return float((actual - expected).norm() / expected.norm())


def cpu_grid() -> Iterator[Case]:
    for tokens in (1024, 8192):
        for vocab in (32_000, 152_064):
            for hidden in (256, 1024):
                for weighted in (1.0, 0.5, 0.1):
                    for beta in (0.0, 0.5):
                        for top in (0, TOP):
                            yield Case(tokens=tokens, vocab=vocab, hidden=hidden, weighted=weighted, beta=beta, top=top)


def cuda_grid() -> Iterator[Case]:
    for hidden in (2048, 4096):
        for tokens in (1024, 8192, 32_768):
            for weighted in (1.0, 0.1):
                for beta in (0.0, 0.5):
                    for top in (0, TOP):
                        yield Case(
                            tokens=tokens, vocab=151_936, hidden=hidden, weighted=weighted, beta=beta, top=top,
                            device="cuda", dtype="bfloat16",
                        )  # fmt: skip


def run(cases: list[Case], store: Path, repeats: int, limit_gib: float | None) -> None:
    """Measure the cases that are not in the store yet.

    With 0 repeats, times come from the runs that measure memory, and the peers' figures are taken from the same case with every
    token weighted, if the store has it, since they compute every token regardless of its weight.
    """
    script = Path(__file__)
    rows = [json.loads(line) for line in store.read_text().splitlines()] if store.exists() else []
    known = {Case(**row["case"]): row["memory"] for row in rows}
    remaining = [case for case in cases if case not in known]
    for count, case in enumerate(remaining, start=1):
        fully_weighted = known.get(replace(case, weighted=1.0), {}) if not repeats else {}
        reused = {
            name: {**peak, "loss": None, "taken": True}
            for name, peak in fully_weighted.items()
            if name in case.peers and ("seconds" in peak or "failed" in peak)
        }
        names = [name for name in ("ours", *case.peers) if name not in reused]
        peaks = {n: in_fresh_process(script, {"case": asdict(case), "single": n}, limit_gib=limit_gib) for n in names}
        if "mib" not in peaks["ours"]:
            raise SystemExit(f"{case}: our own loss failed: {peaks['ours']['failed']}")
        peaks |= reused
        succeeded = [name for name in ("ours", *case.peers) if "mib" in peaks[name]]
        timed = (
            in_fresh_process(script, {"case": asdict(case), "time": succeeded, "repeats": repeats}, limit_gib=limit_gib)
            if repeats
            else _single_run_times({name: peaks[name] for name in succeeded})
        )
        if "failed" in timed:  # all programs in one process need slightly more memory than each alone
            timed = _single_run_times({name: peaks[name] for name in succeeded})
        known[case] = peaks
        row = {"case": asdict(case), "machine": machine(case.device), "repeats": repeats, "memory": peaks, **timed}
        with store.open("a") as file:
            file.write(json.dumps(row) + "\n")
        seconds = {n: t["median"] for n, t in timed.get("seconds", {}).items()}
        print(f"{count}/{len(remaining)} {case}\n  {peaks}\n  {seconds or timed}", flush=True)


def _single_run_times(runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the result of `timing` from a single run of each program; gradients are not compared."""
    expected = runs["ours"]["loss"]
    return {
        "seconds": {n: dict.fromkeys(("median", "least", "greatest"), round(r["seconds"], 5)) for n, r in runs.items()},
        "gaps": {
            name: {"loss": abs(run["loss"] - expected) / abs(expected)} for name, run in runs.items() if run["loss"] is not None
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--tokens", type=int, nargs="+", help="only these numbers of tokens")
    parser.add_argument("--vocab", type=int, nargs="+", help="only these vocabularies")
    parser.add_argument("--hidden", type=int, nargs="+", help="only these widths")
    parser.add_argument("--weighted", type=float, nargs="+", help="only these shares of tokens with weight")
    parser.add_argument("--repeats", type=int, default=3, help="0: time only the runs that measure memory, one per program")
    parser.add_argument("--limit-gib", type=float, help="memory limit of a program; more counts as not fitting")
    parser.add_argument("--task", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.task is not None:
        case = Case(**args.task["case"])
        if "single" in args.task:
            print(json.dumps(single(case, args.task["single"])))
        else:
            print(json.dumps(timing(case, args.task["time"], args.task["repeats"])))
        return
    grid = cuda_grid() if args.device == "cuda" else cpu_grid()
    chosen = [
        case
        for case in grid
        if all(
            getattr(args, field) is None or getattr(case, field) in getattr(args, field)
            for field in ("tokens", "vocab", "hidden", "weighted")
        )
    ]
    RESULTS.mkdir(exist_ok=True)
    run(chosen, RESULTS / f"loss-{args.device}.jsonl", args.repeats, args.limit_gib)


if __name__ == "__main__":
    sys.exit(main())
