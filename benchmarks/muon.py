"""A step of the kit's Muon against torch's, in turns on this machine: `python benchmarks/muon.py` ends with `ratio X`."""

from __future__ import annotations

import torch
from harness import take_turns

from rosd_kit.model.micro.model import blank_model
from rosd_kit.training.muon import Muon


def main() -> None:
    """Time both on the matrices of the embedded model."""
    optimizers = {"ours": Muon, "torch": torch.optim.Muon}
    steps = {}
    for name, cls in optimizers.items():
        matrices = [p for p in blank_model(0).model.layers.parameters() if p.ndim == 2]
        for matrix in matrices:
            matrix.grad = torch.randn_like(matrix)
        steps[name] = cls(matrices, lr=1e-3).step
    times = take_turns(steps, repeats=5, device="cpu")
    for name, time in times.items():
        print(f"{name:>6} {1000 * time.median:8.1f} ms")
    print(f"ratio {times['torch'].median / times['ours'].median:.2f}")


if __name__ == "__main__":
    main()
