"""From words and files to trials: axes, possible combinations, designs and trial ids."""

from __future__ import annotations

import gzip
import itertools
import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rosd_kit.errors import RecipeError, RosdError
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import load_recipe, resolve_recipe, to_yaml
from rosd_kit.sweep.axes import Axis, is_same_value, label, parse_axis, split_values
from rosd_kit.sweep.combinations import assignment_at, product, product_size
from rosd_kit.sweep.designs import cover_pairs, pairs_of
from rosd_kit.sweep.origins import AXIS, FILE, RULE, SEEDS, stored_origins, with_stored_origins
from rosd_kit.sweep.plan import make_plan
from rosd_kit.sweep.settings import Design, find_sweep, read_sweep
from rosd_kit.sweep.trial_id import trial_id


def table(plan):
    return [tuple(plan.labels(combination)) for combination in plan.combinations]


@pytest.mark.parametrize(
    ("word", "field", "values"),
    [
        ("localizer=error_quote,full", "localizer", ("error_quote", "full")),
        ("seed=0..2", "seed", ("0", "1", "2")),
        ("seed=7,0..2", "seed", ("7", "0", "1", "2")),
        ("optimizer.betas=[0.9,0.99],[0.8,0.9]", "optimizer.betas", ("[0.9,0.99]", "[0.8,0.9]")),
        ("teacher=frozen,{name: ema, rate: 0.1}", "teacher", ("frozen", "{name: ema, rate: 0.1}")),
        ("context.template='a, b',c", "context.template", ("'a, b'", "c")),
    ],
)
def test_a_word_is_parsed_as_an_axis(word, field, values):
    assert parse_axis(word) == Axis(field, values)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("localizer", "does not have the form"),
        ("localizer=", "a value is missing"),
        ("localizer=full,", "a value is missing"),
        ("localizer=full,full", "appears twice"),
        ("seed=2..0", "is empty"),
        ("seed=0..99999999", "longer than"),
        ("teacher={name: ema", "} is missing"),
    ],
)
def test_an_invalid_axis_is_an_error(word, message):
    with pytest.raises(RecipeError, match=message):
        parse_axis(word)


@given(st.lists(st.text(alphabet="abc.0", min_size=1), min_size=1))
def test_values_without_brackets_are_split_at_every_comma(values):
    assert split_values(",".join(values), "") == values


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
def test_an_assignment_can_be_looked_up_by_its_index(sizes, data):
    axes = [Axis(f"a{i}", tuple(map(str, range(n)))) for i, n in enumerate(sizes)]
    index = data.draw(st.integers(0, product_size(axes) - 1))
    assert assignment_at(axes, index) == next(itertools.islice(product(axes), index, None))


def test_a_component_with_options_has_a_short_label():
    assert label('{"name": "ema", "rate": 0.05}') == "ema(rate=0.05)"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("{from: 1e-4, to: 1e-5, steps: 3}", "0.0001 -> 1e-05 over 3 steps (linear)"),
        ('{"to": 0.5, "from": 1, "steps": 4, "shape": "step", "every": 2}', "1 -> 0.5 over 4 steps (step every 2)"),
        ("{from: 1, to: .5, steps: 4, after: 2}", "1 -> 0.5 over 4 steps from step 2 (linear)"),
        ("{from: 1, to: .5, steps: 4, warmup: 2}", "1 -> 0.5 over 4 steps after a warm-up of 2 (linear)"),
        ("{name: ema, rate: {from: .5, to: 0, steps: 2}}", "ema(rate=0.5 -> 0 over 2 steps (linear))"),
        ("[{name: distill, weight: {from: 1, to: 0, steps: 2}}]", "[distill(weight=1 -> 0 over 2 steps (linear))]"),
        ("{from: 1, to: 0}", "{from: 1, to: 0}"),
        ("{prompt} and more", "{prompt} and more"),
        ("[0.9,0.99]", "[0.9,0.99]"),
    ],
)
def test_a_schedule_has_a_short_label(value, text):
    assert label(value) == text


def test_values_are_compared_by_what_they_mean():
    assert is_same_value("{to: .5, from: 1, steps: 2}", '{"from": 1.0, "to": 0.5, "steps": 2, "shape": "linear"}')
    assert is_same_value("1e-4", "0.0001") and is_same_value("full", "full")
    assert not is_same_value("{to: .5, from: 1, steps: 2}", "{to: .5, from: 1, steps: 3}")
    assert not is_same_value("true", "1") and not is_same_value("full", "none")


def test_a_schedule_is_swept_like_any_value(tmp_path, registry):
    file = tmp_path / "mine.sweep.yaml"
    file.write_text(
        "sweep: mine\nrecipe: rosd\nset: {teacher: ema, teacher.rate: {from: .5, to: .1, steps: 3}}\n"
        "axes:\n  sampling.temperature: [0.9, {from: 1, to: 0.5, steps: 4}]\n"
        "  optimizer.lr: {from: 1.0e-4, to: 1.0e-5, steps: 5, shape: cosine}\n"
        "rules:\n- {when: {sampling.temperature: {to: 0.5, from: 1.0, steps: 4}}, set: {group_size: 6}, because: it is warm}\n"
    )
    planned = make_plan(read_sweep(str(file)), registry)
    warm, cosine = "1 -> 0.5 over 4 steps (linear)", "0.0001 -> 1e-05 over 5 steps (cosine)"
    assert [row for row in table(planned) if row[1] == cosine] == [("0.9", cosine), (warm, cosine)]
    for trial in planned.trials:
        again = load_recipe(_saved(tmp_path, trial.recipe), registry=registry)
        assert again == trial.recipe and [again.at_step(step).teacher.options.rate for step in (0, 3)] == [0.5, 0.1]
    recipe = planned.combinations[table(planned).index((warm, cosine))].recipe
    assert [recipe.at_step(step).sampling.temperature for step in range(6)] == [1.0, 0.875, 0.75, 0.625, 0.5, 0.5]
    assert [recipe.at_step(step).optimizer.lr for step in (0, 5)] == [1e-4, 1e-5]
    assert recipe.group_size == 6 != planned.combinations[table(planned).index(("0.9", cosine))].recipe.group_size


def test_a_schedule_is_swept_from_the_command_line(plan):
    planned = plan(
        "rosd",
        "sampling.temperature=1,{from: 1, to: 0.5, steps: 2}",
        "teacher=ema,{name: ema, rate: {from: .5, to: .1, steps: 4}}",
    )
    assert {tuple(str(each) for each in one.recipe.schedules().values()) for one in planned.combinations} == {
        (), ("1 -> 0.5 over 2 steps (linear)",), ("0.5 -> 0.1 over 4 steps (linear)",),
        ("1 -> 0.5 over 2 steps (linear)", "0.5 -> 0.1 over 4 steps (linear)"),
    }  # fmt: skip
    assert len(set(planned.ids)) == 5  # the recipe itself has another teacher
    both = next(one.recipe for one in planned.combinations if len(one.recipe.schedules()) == 2)
    assert [(both.at_step(s).sampling.temperature, both.at_step(s).teacher.options.rate) for s in (1, 4)] == [
        (0.75, pytest.approx(0.4)), (0.5, 0.1),
    ]  # fmt: skip


def test_a_schedule_where_none_is_possible_is_an_error(plan):
    with pytest.raises(RecipeError, match=r"group_size=4 -> 8 over 2 steps \(linear\) works in no .*memory is planned"):
        plan("rosd", "group_size=4,{from: 4, to: 8, steps: 2}")
    with pytest.raises(RecipeError, match=r"sampling.temperature={from: 1, to: 0.5} works in no .*sampling.temperature.steps"):
        plan("rosd", "sampling.temperature=1,{from: 1, to: 0.5}")


def test_a_grid_has_the_recipe_first_and_every_combination_once(plan):
    planned = plan("rosd", "localizer=full,error_quote", "reflector=tutor,oracle", "seed=0..2")
    assert table(planned) == [("error_quote", "tutor"), ("full", "tutor"), ("full", "oracle"), ("error_quote", "oracle")]
    assert [(trial.combination, trial.seed) for trial in planned.trials] == [(c, s) for s in range(3) for c in range(4)]
    assert len(set(planned.ids)) == 12
    assert {trial.recipe.seed for trial in planned.trials} == {0, 1, 2}


def test_one_at_a_time_changes_one_component_per_combination(plan):
    planned = plan("rosd", "localizer=full,oracle", "reflector=tutor,oracle", design=Design("one_at_a_time"))
    assert table(planned) == [("error_quote", "tutor"), ("full", "tutor"), ("oracle", "tutor"), ("error_quote", "oracle")]


def test_pairwise_covers_every_possible_pair_with_fewer_trials(plan):
    words = ("localizer=error_quote,full,oracle", "reflector=tutor,oracle", "teacher=frozen,ema,live", "group_size=4,8")
    grid, pairwise = plan("rosd", *words), plan("rosd", *words, design=Design("pairwise"))
    assert len(grid.combinations) == 36 and not grid.skipped

    def pairs(planned):
        return set().union(*(itertools.combinations(enumerate(row), 2) for row in table(planned)))

    assert pairs(pairwise) == pairs(grid)
    assert 9 <= len(pairwise.combinations) <= 12


@given(st.lists(st.tuples(*[st.sampled_from("012")] * 3), min_size=1, max_size=20))
def test_covering_pairs_omits_no_pair(rows):
    combinations = [SimpleNamespace(assignment=dict(zip("abc", row, strict=True))) for row in rows]
    chosen = cover_pairs(combinations)
    covered, all_pairs = (set().union(*(pairs_of(c.assignment) for c in group)) for group in (chosen, combinations))
    assert covered == all_pairs
    assert all(combination in combinations for combination in chosen)


def test_a_random_design_draws_the_given_number_and_repeats_with_its_seed(plan):
    words = ("localizer=error_quote,full,oracle", "teacher=frozen,ema,live", "optimizer.lr=1e-4,2e-4,4e-4")
    first, again, other = (plan("rosd", *words, design=Design("random", 5, seed)) for seed in (0, 0, 1))
    assert table(first) == table(again) != table(other)
    assert len(first.combinations) in (5, 6)  # the recipe itself comes first, drawn or not


def test_an_unknown_value_is_an_error_with_a_suggestion(plan):
    with pytest.raises(RecipeError, match=r"localizer=eror_quote works in no combination.*Did you mean 'error_quote'"):
        plan("rosd", "localizer=eror_quote,full", "seed=0..2")


def test_an_unknown_field_is_an_error_with_a_suggestion(plan):
    with pytest.raises(RecipeError, match=r"Did you mean 'boundary'"):
        plan("rosd", "localizer=error_quote,full", "localizer.boundry=quote,sentence")
    with pytest.raises(RecipeError, match=r"Did you mean 'localizer'"):
        plan("rosd", "localiser=full,oracle")


def test_an_impossible_combination_is_skipped_with_its_reason(plan):
    planned = plan("rosd", "localizer=error_quote,full", "reflector=tutor,none", "context=key_idea,solution")
    (first, *rest) = planned.skipped
    assert first.assignment == {"localizer": "error_quote", "reflector": "none", "context": "key_idea"}
    assert "needs 'quote', which no chosen component provides" in first.reason
    assert len(planned.combinations) + len(planned.skipped) == 8 and len(rest) >= 1


def test_an_option_applies_only_where_its_component_is_chosen(plan):
    planned = plan("rosd", "localizer=error_quote,full", "localizer.boundary=quote,sentence")
    assert table(planned) == [("error_quote", "quote"), ("error_quote", "sentence"), ("full", "-")]
    assert planned.skipped == ()


def test_a_recipe_can_be_an_axis(plan):
    planned = plan("rosd", "recipe=rosd,sdpo", "teacher=frozen,ema")
    assert table(planned) == [("rosd", "frozen"), ("rosd", "ema"), ("sdpo", "frozen"), ("sdpo", "ema")]
    assert [combination.recipe.context.name for combination in planned.combinations] == [
        "key_idea",
        "key_idea",
        "solution",
        "solution",
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("localizer=full",), "nothing varies"),
        (("localizer=full,oracle", "evaluation.problems=0"), "nothing to compare"),
        (("localizer=full,oracle", "parallel.processes=2"), "one process"),
        (("name=a,b",), "cannot be varied"),
        (("seed=a,b",), "whole numbers"),
        (("optimizer.lr=1e-4,fast",), "works in no combination"),
    ],
)
def test_an_impossible_sweep_is_an_error(plan, words, message):
    with pytest.raises(RosdError, match=message):
        plan("rosd", *words)


def test_too_many_combinations_are_an_error_before_any_is_resolved(plan):
    words = [f"sampling.max_new_tokens={','.join(map(str, range(10, 60)))}", "steps=1..50", "problems_per_step=1..50"]
    with pytest.raises(RecipeError, match="125000 combinations"):
        plan("rosd", *words)


def test_words_change_what_a_sweep_file_says(tmp_path, registry):
    (tmp_path / "own.yaml").write_text("extends: rosd\nsteps: 7\n")
    file = tmp_path / "mine.sweep.yaml"
    file.write_text(
        "sweep: mine\nrecipe: own.yaml\nset: {optimizer.lr: 1.0e-4}\nseeds: 3..4\n"
        "axes: {context: [key_idea, solution], localizer: [error_quote, full]}\n"
        "rules:\n"
        "- {when: {context: solution, localizer: full}, set: {reflector: none}, because: it is not read}\n"
        "- {when: {context: solution, localizer: error_quote}, skip: true, because: not needed}\n"
    )
    planned = make_plan(read_sweep(str(file)), registry)
    assert table(planned) == [("key_idea", "error_quote"), ("key_idea", "full"), ("solution", "full")]
    assert [combination.recipe.reflector.name for combination in planned.combinations] == ["tutor", "tutor", "none"]
    assert planned.combinations[2].notes == ("reflector=none: it is not read",)
    assert [skipped.reason for skipped in planned.skipped] == ["by rule: not needed"]
    assert {(trial.seed, trial.recipe.steps, trial.recipe.optimizer.lr) for trial in planned.trials} == {
        (3, 7, 1e-4),
        (4, 7, 1e-4),
    }
    changed = make_plan(read_sweep(str(file), ["seed=0", "steps=2", "localizer=error_quote,oracle"]), registry)
    assert {(trial.seed, trial.recipe.steps) for trial in changed.trials} == {(0, 2)}
    assert ("key_idea", "oracle") in table(changed)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sweep: x\nrecipe: rosd\naxes: {}\n", "axes"),
        ("sweep: x\nrecipe: rosd\naxis: {localizer: [full]}\n", "Did you mean 'axes'"),
        ("sweep: x\nrecipe: rosd\naxes: {seed: [0, 1]}\n", "seeds: 0..2"),
        (
            "sweep: x\nrecipe: rosd\naxes: {localizer: [full]}\nrules: [{when: {loclizer: a}, skip: true, because: y}]\n",
            "Did you mean",
        ),
        (
            "sweep: x\nrecipe: rosd\naxes: {localizer: [full, oracle]}\nrules: [{when: {localizer: full}, because: y}]\n",
            "either skip or set",
        ),
    ],
)
def test_a_mistake_in_a_sweep_file_is_an_error(tmp_path, text, message):
    file = tmp_path / "bad.sweep.yaml"
    file.write_text(text)
    with pytest.raises(RecipeError, match=message):
        read_sweep(str(file))


def test_shipped_sweeps_are_found_by_name_and_resolve(registry):
    with pytest.raises(RecipeError, match=r"Did you mean 'recipes/ablations/idea-x-place.sweep.yaml'"):
        find_sweep("recipes/ablations/idea-x-plce.sweep.yaml")
    table4 = make_plan(read_sweep("recipes/ablations/idea-x-place.sweep.yaml"), registry)
    crossed = make_plan(read_sweep("recipes/ablations/method-x-teacher.sweep.yaml"), registry)
    assert len(table4.combinations) == len(crossed.combinations) == 4
    assert set(table4.ids) & set(crossed.ids) == {trial.id for trial in table4.trials if trial.combination == 0}


@pytest.mark.parametrize(
    ("name", "combinations", "trials"),
    [
        *(("rates", 20, 20), ("cells", 16, 48), ("methods", 5, 25), ("twice", 5, 25), ("others", 6, 12)),
        *(("imitation", 8, 16), ("reflector", 6, 12), ("unlimited", 4, 8)),
    ],
)
def test_the_sweeps_on_problems_that_leave_choices_resolve_with_equal_rollouts(registry, name, combinations, trials):
    made = make_plan(read_sweep(f"recipes/ablations/reasoning-{name}.sweep.yaml"), registry)
    recipes = [one.resolution.recipe for one in made.combinations]
    assert (len(recipes), len(made.trials), made.skipped) == (combinations, trials, ())
    assert {recipe.problems_per_step * recipe.group_size for recipe in recipes} == {32}
    assert {(recipe.task.name, recipe.model.path) for recipe in recipes} == {("micro_reasoning", "micro-reasoning")}


@pytest.mark.parametrize("tier", ["rates", "cells", "methods", "twice", "others", "imitation", "reflector", "unlimited"])
def test_kept_results_are_those_of_the_sweeps_that_ship(registry, tier):
    """A new field of recipes must not change the ids of what was measured before it: see `_YOUNGER` in trial_id.py."""
    planned = {trial.id for trial in make_plan(read_sweep(f"recipes/ablations/reasoning-{tier}.sweep.yaml"), registry).trials}
    with gzip.open(f"benchmarks/results/reasoning-{tier}.jsonl.gz", "rt") as lines:
        kept = {json.loads(line)["id"] for line in lines}
    assert kept and kept <= planned


def test_a_trial_id_depends_on_everything_that_changes_the_numbers_and_nothing_else(registry):
    def id_of(*words, source="rosd"):
        return trial_id(load_recipe(source, words, registry=registry), registry)

    assert id_of() == id_of("localizer=error_quote", "checkpoint.every=3", "samples.every=0", "name=other")
    assert id_of() == id_of("watch.patience=3", "watch.entropy=0.9", "tracking.to=[tensorboard]", "tracking.project=other")
    assert id_of(source="rosd") == id_of(source="ablations/rosd-frozen")
    assert len({id_of(), id_of("seed=1"), id_of("steps=3"), id_of("localizer=full"), id_of("evaluation.problems=8")}) == 5


def test_a_trial_id_depends_on_the_content_of_a_plugin_file(tmp_path):
    text = (
        "import rosd_kit as rk\n\nclass Mine(rk.Localizer):\n    '''Everything.'''\n    name = 'mine'\n\n"
        "    def locate(self, case):\n        raise NotImplementedError\n\n"
        "@rk.hookimpl\ndef rosd_kit_components():\n    return [Mine]\n"
    )

    def id_of(folder, content, *words):
        folder.mkdir(exist_ok=True)
        (folder / "mine.py").write_text(content)
        registry = PluginManager([folder / "mine.py"], selection="builtin").registry
        return trial_id(load_recipe("rosd", words, registry=registry), registry)

    same, moved = id_of(tmp_path / "a", text, "localizer=mine"), id_of(tmp_path / "b", text, "localizer=mine")
    assert same == moved != id_of(tmp_path / "a", text + "# changed\n", "localizer=mine")
    assert id_of(tmp_path / "a", text) == id_of(tmp_path / "a", text + "# changed\n")


def _saved(folder, recipe):
    path = folder / "trial.yaml"
    path.write_text(to_yaml(recipe))
    return path


def test_origins_tell_axis_rule_file_seeds_and_recipe_apart(plan, registry, tmp_path):
    (tmp_path / "mine.sweep.yaml").write_text(
        "sweep: mine\nrecipe: rosd\nset: {steps: 3, localizer.match: exact}\n"
        "axes: {localizer: [error_quote, full]}\nseeds: 5..6\n"
        "rules: [{when: {localizer: full}, set: {reflector: none, context: solution}, because: nobody reads it}]\n"
    )
    first, last = (one.resolution for one in plan(str(tmp_path / "mine.sweep.yaml"), "group_size=4").combinations)
    assert {first.provenance[path] for path in ("steps", "localizer.match")} == {FILE}
    assert (last.provenance["localizer.name"], last.provenance["context.name"]) == (AXIS, RULE)
    assert {one.provenance["group_size"] for one in (first, last)} == {"command line"}
    assert last.provenance["gate.name"] == "recipes/rosd.yaml"
    own = resolve_recipe("rosd", registry=registry)
    shown = with_stored_origins(own, stored_origins(last, with_seed=True))
    assert (shown.recipe, shown.preset, shown.profile) == (own.recipe, "rosd", "micro")
    assert shown.provenance == {**last.provenance, "seed": SEEDS}
    assert with_stored_origins(own, stored_origins(last, with_seed=False)).provenance == last.provenance


@pytest.mark.parametrize("stored", [None, "", "[]", "{}", '{"preset": null, "profile": "micro", "origins": [1]}', "[" * 99999])
def test_origins_that_are_missing_or_damaged_are_left_out(registry, stored):
    assert with_stored_origins(resolve_recipe("rosd", registry=registry), stored) is None


def test_recipes_of_a_sweep_file_are_looked_up_beside_it(registry, tmp_path, monkeypatch):
    """Also those of the axis and of rules; from whatever folder the sweep is started."""
    folder = tmp_path / "deep"
    folder.mkdir()
    (folder / "mine.yaml").write_text("extends: rosd\nname: mine\nlocalizer: full\n")
    (folder / "both.sweep.yaml").write_text(
        "sweep: both\nrecipe: mine.yaml\naxes: {recipe: [rosd, mine.yaml], optimizer.lr: [0.0001, 0.001]}\n"
        "rules:\n  - {when: {recipe: mine.yaml, optimizer.lr: 0.001}, skip: true, because: it breaks}\n"
    )
    monkeypatch.chdir(tmp_path)
    plan = make_plan(read_sweep("deep/both.sweep.yaml"), registry)
    found = [(one.recipe.name, one.recipe.localizer.name, one.recipe.optimizer.lr) for one in plan.combinations]
    assert found[0][:2] == ("mine", "full") and ("rosd", "error_quote", 0.001) in found
    assert ("mine", "full", 0.001) not in found[1:]
    assert len(plan.skipped) == 1
