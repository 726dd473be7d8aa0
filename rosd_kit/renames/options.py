"""Tables: fields, options of recipes, metrics, hooks and methods of slots."""

from __future__ import annotations

from rosd_kit.renames.entry import Renamed, table

#: Fields of classes that `accepts_old_fields` marks, and of the `run` that observers get.
FIELDS: dict[str, Renamed] = {
    "rosd_kit.Section.keep": Renamed(
        old="rosd_kit.Section.keep", new="rosd_kit.Section.cut_priority", since=2, until=4, values={0: None}
    ),
    **table(2, 4, {"model.packing.Layout.places": "model.packing.Layout.state_indices"}),
    **table(2, 4, {"folder": "path", "student": "policy"}, prefix="run."),
}

#: Options of recipes by their dotted paths. Those of components are listed by their class, in `Config.renamed_options`.
OPTIONS: dict[str, Renamed] = table(2, 4, {"sampling.lookahead": "sampling.prefetch"}, prefix="")

#: Keys of `metrics.jsonl`.
METRICS: dict[str, Renamed] = table(2, 4, {"time/ahead": "time/prefetch"}, prefix="")

#: Hooks, with arguments of the same names.
HOOKS: dict[str, Renamed] = {}
#: Methods and class attributes of the slots' base classes, by slot.
METHODS: dict[str, dict[str, Renamed]] = {}
