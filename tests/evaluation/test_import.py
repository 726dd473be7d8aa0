"""`evaluate` and `datasets` take seconds to import: a run that evaluates does not. For commands that list: test_startup.py."""

from __future__ import annotations

import subprocess
import sys

CALL = """
import sys
from rosd_kit.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
print("imported:", *sorted({"evaluate", "datasets", "pandas", "scipy.stats"} & set(sys.modules)))
"""
RUN = ("run", "rosd", "profile=micro", "steps=1", "problems_per_step=1", "group_size=2", "sampling.max_new_tokens=4")
QUICK = (*RUN, "gate=all", "demonstration=reference", "reflector=oracle", "localizer=full", "--quiet")


def test_a_run_that_evaluates_imports_no_metrics_library(tmp_path):
    command = [sys.executable, "-c", CALL, *QUICK, "evaluation.problems=1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "runs/rosd-1/evaluations.jsonl").is_file()
    assert done.stdout.splitlines()[-1] == "imported:"
