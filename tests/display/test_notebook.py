"""A run in a notebook updates one output, without widgets."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from rosd_kit.display import NotebookDisplay, make_display
from rosd_kit.display.base import RunSummary


@pytest.fixture
def outputs(monkeypatch):
    """Stand in for the kernel's display machinery; return every version of the one output."""
    shown = []
    handle = SimpleNamespace(update=lambda page: shown.append(page))

    def display(page, display_id):
        assert display_id and not shown, "there is one output, which is updated"
        shown.append(page)
        return handle

    ipython, module = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = lambda: SimpleNamespace(kernel=object())
    module.HTML, module.display, ipython.display = str, display, module
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return shown


def test_a_notebook_gets_the_notebook_display(outputs):
    assert isinstance(make_display(), NotebookDisplay)
    assert not isinstance(make_display(live=False), NotebookDisplay)
    assert not isinstance(make_display(quiet=True), NotebookDisplay)


def test_one_output_shows_the_step_warnings_and_the_result(outputs):
    display = make_display()
    display.start("rosd in runs/rosd-1", {}, steps=4, done=0)
    display.step(1, {"rollout/success": 0.5, "train/loss": 0.25})
    assert "step 1/4" in outputs[-1] and "loss" in outputs[-1] and "0.2500" in outputs[-1]
    display.warning("<b>careful</b>")
    assert "warning: &lt;b&gt;careful&lt;/b&gt;" in outputs[-1] and "step 1/4" in outputs[-1]
    display.finish(RunSummary(name="rosd", folder="runs/rosd-1", steps=4, seconds=61.0))
    assert "4 steps in 1:01" in outputs[-1] and "step 1/4" not in outputs[-1]
    display.close()


def test_without_a_kernel_there_is_no_notebook(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not isinstance(make_display(), NotebookDisplay)
