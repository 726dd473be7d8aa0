"""Draws the README's picture from a real run of `rosd-kit run recipes/rosd.yaml`: `python docs/pictures/make.py`

The upper part is the live display early in the run, the lower part what the run says at its end.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

from rosd_kit.display.live import LiveDisplay
from rosd_kit.display.plain import print_summary
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import load_recipe
from rosd_kit.run.loop import run_recipe

WIDTH = 100


class Photographer(LiveDisplay):
    """A live display that keeps a picture of itself early in the run and of the end."""

    def __init__(self) -> None:
        super().__init__(Console(width=WIDTH))
        self.film = Console(width=WIDTH, record=True, force_terminal=True, file=io.StringIO())

    def step(self, step: int, metrics: Any) -> None:
        super().step(step, metrics)
        if step == self.steps // 4 + 4:
            self.film.print("$ rosd-kit run recipes/rosd.yaml", style="bold", highlight=False)
            self.film.print(self.panel())

    def finish(self, summary: Any) -> None:
        self.close()
        print_summary(self.film, summary)


def main() -> None:
    plugins = PluginManager()
    recipe = load_recipe("recipes/rosd.yaml", registry=plugins.registry)
    display = Photographer()
    with tempfile.TemporaryDirectory() as out:
        run_recipe(recipe, plugins=plugins, out=Path(out), name="rosd-1", resume=None, display=display)
        picture = display.film.export_svg(title="rosd-kit").replace(out, "runs")
    Path(__file__).with_name("run.svg").write_text(picture)


if __name__ == "__main__":
    main()
