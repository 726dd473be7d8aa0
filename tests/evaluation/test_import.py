"""`evaluate` and `datasets` take seconds to import: only computing a metric does."""

from __future__ import annotations

import subprocess
import sys

import pytest

CALL = """
import sys
from rosd_kit.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code, end.code
print("imported:", *sorted({"evaluate", "datasets"} & set(sys.modules)))
"""
RUN = ("run", "rosd", "profile=micro", "steps=1", "problems_per_step=1", "group_size=2", "sampling.max_new_tokens=4")
QUICK = (*RUN, "gate=all", "demonstration=reference", "reflector=oracle", "localizer=full", "--quiet")
COMMANDS = {
    "--help": (["--help"], ""),
    "show": (["show", "rosd"], ""),
    "run without evaluation": ([*QUICK, "evaluation.problems=0"], ""),
    "run with evaluation": ([*QUICK, "evaluation.problems=1"], " datasets evaluate"),
}


@pytest.mark.parametrize(("words", "imported"), COMMANDS.values(), ids=COMMANDS)
def test_evaluate_is_imported_when_a_metric_is_computed(tmp_path, words, imported):
    done = subprocess.run([sys.executable, "-c", CALL, *words], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"imported:{imported}"
