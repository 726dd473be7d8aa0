"""How often a sweep's intervals hold the truth, and how often its p-values find what is not there, by simulation.

    python benchmarks/sweep_intervals.py            # some minutes on one core; prints the table of docs/sweeps.md

Differences are drawn with a true mean of 0: a normal part for each seed, one for each problem, and noise.
"""

from __future__ import annotations

import argparse

import numpy as np
from harness import table

from rosd_kit.sweep.statistics import estimate, resampled_means

PROBLEMS = 64
#: What varies: seeds, suites, and the standard deviations between seeds, between problems, and of the rest.
CASES = {
    "between seeds mostly": (3, 1, 0.1, 0.05, 0.05),
    "seeds and noise": (3, 1, 0.05, 0.1, 0.2),
    "between problems mostly": (3, 1, 0.005, 0.3, 0.2),
    "noise only": (3, 1, 0.0, 0.0, 0.2),
    "all three, several suites": (3, 4, 0.03, 0.2, 0.2),
    "all three, two seeds": (2, 1, 0.03, 0.2, 0.2),
    "all three, five seeds": (5, 1, 0.03, 0.2, 0.2),
}


def drawn(
    rng: np.random.Generator, seeds: int, suites: int, of_seed: float, of_problem: float, noise: float
) -> list[np.ndarray]:
    """Return one sweep's differences, `[seeds, problems]` for each suite."""
    own = rng.normal(0, of_seed, (seeds, 1))
    return [own + rng.normal(0, of_problem, (1, PROBLEMS)) + rng.normal(0, noise, (seeds, PROBLEMS)) for _ in range(suites)]


def rates(rng: np.random.Generator, case: tuple[int, int, float, float, float], sweeps: int) -> list[str]:
    """Return in percent how often our interval and the plain one hold 0, and how often p < 0.05."""
    found = np.zeros(3)
    for sweep in range(sweeps):
        tables = drawn(rng, *case)
        ours = estimate(tables, bounds=(-9.0, 9.0), seed=sweep, resamples=500)
        low, high = np.quantile(resampled_means(tables, sweep, 500), (0.025, 0.975))
        found += [not ours.interval.excludes(0.0), low <= 0 <= high, ours.p < 0.05]
    return [f"{share:.0f} %" for share in 100 * found / sweeps]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=600)
    asked = parser.parse_args()
    rng = np.random.default_rng(1)
    rows = [[str(case[0]), str(case[1]), name, *rates(rng, case, asked.sweeps)] for name, case in CASES.items()]
    print(table(["seeds", "suites", "variation", "ours", "plain bootstrap", "p < 0.05"], rows))


if __name__ == "__main__":
    main()
