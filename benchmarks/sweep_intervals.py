"""Simulates the coverage of a sweep's intervals and the false-positive rate of its p-values.

    python benchmarks/sweep_intervals.py            # takes minutes on one core; prints the table of docs/sweeps.md

Simulated differences have a true mean of 0: the sum of a normal seed effect, a normal problem effect and noise.
"""

from __future__ import annotations

import argparse

import numpy as np
from harness import table

from rosd_kit.sweep.statistics import mean_with_interval, resampled_means

PROBLEMS = 64
#: Name -> seeds, suites, and the standard deviations of the seed effect, the problem effect and the noise.
CASES = {
    "between seeds mostly": (3, 1, 0.1, 0.05, 0.05),
    "seeds and noise": (3, 1, 0.05, 0.1, 0.2),
    "between problems mostly": (3, 1, 0.005, 0.3, 0.2),
    "noise only": (3, 1, 0.0, 0.0, 0.2),
    "all three, several suites": (3, 4, 0.03, 0.2, 0.2),
    "all three, two seeds": (2, 1, 0.03, 0.2, 0.2),
    "all three, five seeds": (5, 1, 0.03, 0.2, 0.2),
}


def simulate(
    rng: np.random.Generator, seeds: int, suites: int, of_seed: float, of_problem: float, noise: float
) -> list[np.ndarray]:
    """Return the differences of one sweep, `[seeds, problems]` for each suite."""
    seed_effect = rng.normal(0, of_seed, (seeds, 1))
    return [
        seed_effect + rng.normal(0, of_problem, (1, PROBLEMS)) + rng.normal(0, noise, (seeds, PROBLEMS)) for _ in range(suites)
    ]


def rates(rng: np.random.Generator, case: tuple[int, int, float, float, float], sweeps: int) -> list[str]:
    """Return, in percent, how often our interval and the plain bootstrap's contain 0, and how often p < 0.05."""
    counts = np.zeros(3)
    for sweep in range(sweeps):
        tables = simulate(rng, *case)
        ours = mean_with_interval(tables, bounds=(-9.0, 9.0), seed=sweep, resamples=500)
        low, high = np.quantile(resampled_means(tables, sweep, 500), (0.025, 0.975))
        counts += [not ours.interval.excludes(0.0), low <= 0 <= high, ours.p_value < 0.05]
    return [f"{share:.0f} %" for share in 100 * counts / sweeps]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sweeps", type=int, default=600)
    args = parser.parse_args()
    rng = np.random.default_rng(1)
    rows = [[str(case[0]), str(case[1]), name, *rates(rng, case, args.sweeps)] for name, case in CASES.items()]
    print(table(["seeds", "suites", "variation", "ours", "plain bootstrap", "p < 0.05"], rows))


if __name__ == "__main__":
    main()
