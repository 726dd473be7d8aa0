"""The loss alone: from hidden states to the gradients of hidden states and head, against TRL 1.16 and Liger.

    python benchmarks/loss.py                     # the CPU grid, into benchmarks/results/loss-cpu.jsonl
    python benchmarks/loss.py --device cuda       # Qwen3-1.7B and 8B shapes, into loss-cuda.jsonl
    python benchmarks/report.py                   # benchmarks/RESULTS.md from what was measured

All programs get the same tensors. Times are taken in turns in one process; memory is the peak of a fresh process above
what holds the inputs, the two heads and their gradients. TRL and Liger are needed here only: pip install trl==1.16.0
liger-kernel==0.8.5
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
    """One cell of the grid: `beta` 0 is forward KL, .5 the symmetric JSD; `top` 0 is the whole vocabulary."""

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
        """The programs that compute this very loss."""
        return ["sdpo_top"] if self.top else ["trl_chunked", "sdpo_full", "gkd", "liger"]


@dataclass
class Tensors:
    """The inputs of a case; `mask` says which tokens carry weight."""

    student: Tensor
    teacher: Tensor
    student_head: nn.Linear
    teacher_head: nn.Linear
    mask: Tensor


def tensors(case: Case) -> Tensors:
    """Make the inputs: sharp distributions whose teacher is near the student, as in training."""
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


def program(name: str, case: Case, given: Tensors) -> Callable[[], tuple[float, Tensor, Tensor]]:
    """Return a step of one program: it leaves gradients behind and returns the loss with them."""
    compute = PROGRAMS[name](case, given)

    def step() -> tuple[float, Tensor, Tensor]:
        given.student.grad = given.student_head.weight.grad = None
        loss = compute()
        loss.backward()
        return float(loss.detach()), given.student.grad, given.student_head.weight.grad

    return step


def ours(case: Case, given: Tensors) -> Callable[[], Tensor]:
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
    count = int(given.mask.sum())
    ones = torch.ones(count, dtype=torch.float64)
    listed = WeightedTokens(
        sample=torch.zeros(count, dtype=torch.long),
        token=torch.arange(count),
        sampled=torch.zeros(count, dtype=torch.long),
        behaviour=-ones,
        views=torch.ones(count, dtype=torch.long),
        weights=ones[None],
        advantages=0 * ones[None],
        marks=torch.zeros(1, 0, count, dtype=torch.float64),
    )
    head = HeadLoss(
        student=split_model(_model_with(given.student_head)),
        teacher=TeacherScorer([TeacherModel(_model_with(given.teacher_head))], settings=BatchSettings(), pad_id=0, samples=()),
        terms=(WeightedObjective(Distill(parts=parts)),),
        factors=torch.tensor([1 / count], dtype=torch.float64),
        chunk_bytes=BatchSettings().chunk_mib << 20,
        temperature=1.0,
    )

    def compute() -> Tensor:
        loss, _ = head.differentiate(given.student[given.mask], [[given.teacher[given.mask]]], listed)
        return loss

    return compute


def _model_with(head: nn.Linear) -> nn.Module:
    """Return a causal LM with this head; its backbone is never run."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    model = Qwen3ForCausalLM(Qwen3Config(vocab_size=8, hidden_size=8, num_hidden_layers=1, intermediate_size=8, head_dim=2))
    model.lm_head = head
    return model


def trl_chunked(case: Case, given: Tensors) -> Callable[[], Tensor]:
    from trl.trainer.distillation_trainer import _chunked_divergence_loss

    def compute() -> Tensor:
        student, teacher = given.student_head.weight, given.teacher_head.weight
        return _chunked_divergence_loss(
            given.student[None], given.teacher[None], student, teacher, given.mask[None], case.beta
        )[0]

    return compute


def gkd(case: Case, given: Tensors) -> Callable[[], Tensor]:
    from trl.experimental.gkd import GKDTrainer

    labels = torch.where(given.mask, 1, -100)[None]

    def compute() -> Tensor:
        logits = _both_logits(given)
        return GKDTrainer.generalized_jsd_loss(logits[0][None], logits[1][None], labels, beta=case.beta)

    return compute


def sdpo_full(case: Case, given: Tensors) -> Callable[[], Tensor]:
    from trl.experimental.sdpo.loss_utils import compute_full_logit_self_distillation_loss

    def compute() -> Tensor:
        per_token = compute_full_logit_self_distillation_loss(*_both_logits(given), distillation_alpha=case.beta)
        return _masked_mean(per_token, given.mask)

    return compute


def sdpo_top(case: Case, given: Tensors) -> Callable[[], Tensor]:
    from trl.experimental.sdpo.loss_utils import compute_topk_self_distillation_loss

    def compute() -> Tensor:
        per_token = compute_topk_self_distillation_loss(
            *_both_logits(given), distillation_topk=case.top, distillation_alpha=case.beta, distillation_add_tail=True
        )
        return _masked_mean(per_token, given.mask)

    return compute


def liger(case: Case, given: Tensors) -> Callable[[], Tensor]:
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    loss = LigerFusedLinearJSDLoss(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=case.beta, compiled=case.device == "cuda")
    labels = torch.where(given.mask, 0, -100)

    def compute() -> Tensor:
        return loss(given.student, given.student_head.weight, given.teacher, given.teacher_head.weight, labels)

    return compute


def _both_logits(given: Tensors) -> tuple[Tensor, Tensor]:
    """Return the logits of all tokens, as the trainers of these losses have them from the models."""
    with torch.no_grad():
        teacher = given.teacher_head(given.teacher)
    return given.student_head(given.student), teacher


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
    """Run one program once, in a process of its own: its peak above inputs, heads and their gradients in MiB, its seconds
    and its loss."""
    warm = Case(**{**asdict(case), "tokens": 16, "vocab": 512, "weighted": 1.0})
    program(name, warm, tensors(warm))()
    given = tensors(case)
    step = program(name, case, given)
    with PeakMemory(case.device) as peak:
        began = clock(case.device)
        loss, *_ = step()
        seconds = clock(case.device) - began
    floor = sum(p.numel() * p.element_size() for p in (given.student, given.student_head.weight))
    return {"mib": (peak.bytes - floor) / 2**20, "seconds": seconds, "loss": loss}


def timing(case: Case, names: list[str], repeats: int) -> dict[str, Any]:
    """Return all programs' seconds, taken in turns, and how far their losses and gradients lie from ours."""
    given = tensors(case)
    steps = {name: program(name, case, given) for name in names}
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


def _gap(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


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
    """Measure what is not in the store yet, case by case.

    Without repeats, the runs that measure memory are timed, and the peers' are those with every token weighted where such are
    in the store, for they compute every token whatever its weight.
    """
    script = Path(__file__)
    rows = [json.loads(line) for line in store.read_text().splitlines()] if store.exists() else []
    known = {Case(**row["case"]): row["memory"] for row in rows}
    due = [case for case in cases if case not in known]
    for count, case in enumerate(due, start=1):
        whole = known.get(replace(case, weighted=1.0), {}) if not repeats else {}
        taken = {
            name: {**found, "loss": None, "taken": True}
            for name, found in whole.items()
            if name in case.peers and ("seconds" in found or "failed" in found)
        }
        names = [name for name in ("ours", *case.peers) if name not in taken]
        peaks = {n: in_fresh_process(script, {"case": asdict(case), "single": n}, limit_gib=limit_gib) for n in names}
        if "mib" not in peaks["ours"]:
            raise SystemExit(f"{case}: our own loss failed: {peaks['ours']['failed']}")
        peaks |= taken
        able = [name for name in ("ours", *case.peers) if "mib" in peaks[name]]
        timed = (
            in_fresh_process(script, {"case": asdict(case), "time": able, "repeats": repeats}, limit_gib=limit_gib)
            if repeats
            else _once({name: peaks[name] for name in able})
        )
        if "failed" in timed:  # all programs in one process need a little more than each alone
            timed = _once({name: peaks[name] for name in able})
        known[case] = peaks
        row = {"case": asdict(case), "machine": machine(case.device), "repeats": repeats, "memory": peaks, **timed}
        with store.open("a") as file:
            file.write(json.dumps(row) + "\n")
        seconds = {n: t["median"] for n, t in timed.get("seconds", {}).items()}
        print(f"{count}/{len(due)} {case}\n  {peaks}\n  {seconds or timed}", flush=True)


def _once(runs: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what `timing` returns, from one run of each program; of the gradients nothing is compared."""
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
    parser.add_argument("--weighted", type=float, nargs="+", help="only these shares of weighted tokens")
    parser.add_argument("--repeats", type=int, default=3, help="0: time only the runs that measure memory, one a program")
    parser.add_argument("--limit-gib", type=float, help="memory that a program may take; more counts as not fitting")
    parser.add_argument("--task", type=json.loads, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.task is not None:
        case = Case(**asked.task["case"])
        if "single" in asked.task:
            print(json.dumps(single(case, asked.task["single"])))
        else:
            print(json.dumps(timing(case, asked.task["time"], asked.task["repeats"])))
        return
    grid = cuda_grid() if asked.device == "cuda" else cpu_grid()
    chosen = [
        case
        for case in grid
        if all(
            getattr(asked, field) is None or getattr(case, field) in getattr(asked, field)
            for field in ("tokens", "vocab", "hidden", "weighted")
        )
    ]
    RESULTS.mkdir(exist_ok=True)
    run(chosen, RESULTS / f"loss-{asked.device}.jsonl", asked.repeats, asked.limit_gib)


if __name__ == "__main__":
    sys.exit(main())
