"""The notebook of the manual: its cells run from top to bottom, with the output of a script."""

from __future__ import annotations

import json
from pathlib import Path

NOTEBOOK = Path(__file__).parents[2] / "docs/notebook.ipynb"


def test_every_cell_of_the_notebook_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    notebook, names = json.loads(NOTEBOOK.read_text()), {"__name__": "notebook"}
    cells = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] for cell in notebook["cells"] if cell["cell_type"] == "code")
    for number, text in enumerate(cells):
        fewer = text.replace('"steps": 10, "problems_per_step": 8', '"steps": 1, "problems_per_step": 4, "group_size": 4')
        exec(compile(fewer.replace('problems": 16', 'problems": 2'), f"cell {number}", "exec"), names)
    assert names["small"]["steps"] == 1 == len(names["result"].frame)
    assert names["trained"] and names["trained"] in names["wrong"]["response"]
    assert [each.suite for each in names["compared"].comparisons] == ["sums", "sums_long", "coins", "clock", "colours"]
    assert "trained on:" in capsys.readouterr().out
