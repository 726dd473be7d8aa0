"""Draws the README's picture from a real run of `rosd-kit run recipes/rosd.yaml`: `python docs/pictures/make.py`

The upper part is the live display early in the run, the lower part the summary at its end.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from rosd_kit.display import RunSummary
from rosd_kit.display.live import LiveDisplay
from rosd_kit.display.plain import print_summary
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import load_recipe
from rosd_kit.run.loop import run_recipe

WIDTH = 100


class RecordedDisplay(LiveDisplay):
    """A live display that records its panel early in the run, and the summary."""

    def __init__(self) -> None:
        super().__init__(Console(width=WIDTH))
        self.recording = Console(width=WIDTH, record=True, force_terminal=True, file=io.StringIO())

    def step(self, step: int, metrics: Mapping[str, float]) -> None:
        super().step(step, metrics)
        if step == self.steps // 4 + 4:
            self.recording.print("$ rosd-kit run recipes/rosd.yaml", style="bold", highlight=False)
            self.recording.print(self.panel())

    def finish(self, summary: RunSummary) -> None:
        self.close()
        print_summary(self.recording, summary)


def main() -> None:
    plugins = PluginManager()
    recipe = load_recipe("recipes/rosd.yaml", registry=plugins.registry)
    display = RecordedDisplay()
    picture = Path(__file__).resolve().with_name("run.svg")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):  # so that the picture has short paths
        run_recipe(recipe, plugins=plugins, out=Path("runs"), name="rosd-1", resume=None, display=display)
    picture.write_text(display.recording.export_svg(title="rosd-kit"))


if __name__ == "__main__":
    main()
