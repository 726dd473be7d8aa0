"""Writes the model card of an exported model: method, data, settings, and what the evaluations showed, with intervals.

Names no folder of this machine: a card goes to other people with the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import yaml

from rosd_kit.display.text import comparison_cells, comparison_note, evaluation_cells, evaluation_note
from rosd_kit.errors import RunError
from rosd_kit.evaluation.results import Comparison, SuiteResult, compare
from rosd_kit.recipe import Recipe
from rosd_kit.run.hub import is_repository
from rosd_kit.run.summary import read_evaluations
from rosd_kit.version import __version__

CARD = "README.md"


def model_card(recipe: Recipe, comparisons: Sequence[Comparison] = (), after: Sequence[SuiteResult] = ()) -> str:
    """Return the card of a run's model as Markdown, with the front matter that the hub reads.

    `comparisons` are the last evaluation against the first; without them, the card shows `after`, the last one, alone.
    """
    is_adapter = recipe.model.lora is not None and recipe.model.lora.export == "adapter"
    head = {
        "library_name": "peft" if is_adapter else "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["rosd-kit", "on-policy-self-distillation", recipe.name],
        **({"base_model": recipe.model.path} if _is_on_hub(recipe.model.path) else {}),
    }
    terms = ", ".join(term.name for term in recipe.objective)
    facts = {
        "method": f"recipe `{recipe.name}` of rosd-kit {__version__}",
        "model before": f"`{_shown(recipe.model.path)}`" + (f" at `{recipe.model.revision}`" if recipe.model.revision else ""),
        "trained weights": _trained(recipe),
        "data": _data(recipe),
        "steps": f"{recipe.steps} of {recipe.problems_per_step} problems x {recipe.group_size} rollouts",
        "optimizer": f"{recipe.optimizer.name}, learning rate {recipe.optimizer.lr:g}",
        "sampling": f"temperature {recipe.sampling.temperature:g}, at most {recipe.sampling.max_new_tokens} tokens",
        "seed": str(recipe.seed),
    }
    slots = [(kind, choice.name) for kind, choice in recipe.choices() if kind not in ("task", "objective")]
    lines = [
        "---",
        yaml.safe_dump(head, sort_keys=False).rstrip(),
        "---",
        "",
        f"# {_shown(recipe.model.path)} trained with {recipe.name}",
        "",
        "This model was trained on its own answers (on-policy self-distillation).",
        "",
        *_table(("", ""), facts.items()),
        "",
        "## Method",
        "",
        *_table(("slot", "component"), [*slots, ("objective", terms)]),
        "",
        "## Evaluation",
        "",
        *_evaluation(comparisons, after),
        "",
    ]
    return "\n".join(lines)


def write_model(folder: Path, *, export: Callable[[Path], None], recipe: Recipe, run: Path) -> None:
    """Write a finished run's model with `export`, and its card from the evaluations in the folder `run`."""
    export(folder)
    evaluations = read_evaluations(run)
    before, after = evaluations.get(0, ()), evaluations.get(recipe.steps, ())
    try:
        comparisons = compare(before, after) if before and after else ()
    except RunError:  # the summary says why
        comparisons = ()
    (folder / CARD).write_text(model_card(recipe, comparisons, after), encoding="utf-8")


def _evaluation(comparisons: Sequence[Comparison], after: Sequence[SuiteResult]) -> list[str]:
    if not after:
        return ["It was not evaluated."]
    titles, *rows = comparison_cells(comparisons) if comparisons else evaluation_cells(after)
    note = comparison_note(comparisons) if comparisons else evaluation_note(after)
    paired = "Differences are paired. " if comparisons else ""
    return [*_table(titles, rows), "", f"{note}. {paired}The intervals do not include the variation between runs."]


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    entries = [titles, ["---"] * len(titles), *rows]
    return [f"| {' | '.join(_cell(text) for text in entry)} |" for entry in entries]


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _data(recipe: Recipe) -> str:
    options = recipe.task.options.model_dump(mode="json")
    path, revision = options.get("path"), options.get("revision")
    named = f", `{_shown(path)}`" if isinstance(path, str) else ""
    return f"task `{recipe.task.name}`{named}" + (f" at `{revision}`" if revision else "")


def _trained(recipe: Recipe) -> str:
    lora = recipe.model.lora
    if lora is None:
        return "all" + (f" but {', '.join(recipe.model.freeze)}" if recipe.model.freeze else "")
    kept = "the adapter alone is here" if lora.export == "adapter" else "merged into the model"
    return f"a LoRA adapter of rank {lora.rank}, alpha {lora.alpha}; {kept}"


def _is_on_hub(path: str) -> bool:
    return is_repository(path) and not Path(path).exists()


def _shown(path: str) -> str:
    """Return a model or data set as others may read it: the name of a local file or folder without where it lies."""
    return path if _is_on_hub(path) or path.startswith("package:") else Path(path).name
