"""From words and files to trials: axes, which combinations are possible, designs, identities."""

from __future__ import annotations

import itertools
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rosd_kit.errors import RecipeError, RosdError
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import load_recipe
from rosd_kit.sweep.axes import Axis, as_label, read_axis, split_values
from rosd_kit.sweep.combinations import combination, product, size
from rosd_kit.sweep.designs import cover_pairs, pairs_of
from rosd_kit.sweep.plan import make_plan
from rosd_kit.sweep.settings import Design, find_sweep, read_sweep
from rosd_kit.sweep.trial_id import identity


def table(plan):
    return [tuple(plan.labels(cell)) for cell in plan.cells]


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
def test_a_word_is_an_axis(word, field, values):
    assert read_axis(word) == Axis(field, values)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("localizer", "is not of the form"),
        ("localizer=", "a value is missing"),
        ("localizer=full,", "a value is missing"),
        ("localizer=full,full", "written twice"),
        ("seed=2..0", "is empty"),
        ("seed=0..99999999", "longer than"),
        ("teacher={name: ema", "} is missing"),
    ],
)
def test_a_word_that_is_no_axis_is_told(word, said):
    with pytest.raises(RecipeError, match=said):
        read_axis(word)


@given(st.lists(st.text(alphabet="abc.0", min_size=1), min_size=1))
def test_plain_values_are_split_at_commas(values):
    assert split_values(",".join(values), "") == values


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4), st.data())
def test_a_combination_can_be_taken_by_its_number(sizes, data):
    axes = [Axis(f"a{place}", tuple(map(str, range(n)))) for place, n in enumerate(sizes)]
    index = data.draw(st.integers(0, size(axes) - 1))
    assert combination(axes, index) == next(itertools.islice(product(axes), index, None))


def test_a_part_with_options_is_told_briefly():
    assert as_label('{"name": "ema", "rate": 0.05}') == "ema(rate=0.05)"


def test_a_grid_has_the_recipe_first_and_every_combination_once(plan):
    made = plan("rosd", "localizer=full,error_quote", "reflector=tutor,oracle", "seed=0..2")
    assert table(made) == [("error_quote", "tutor"), ("full", "tutor"), ("full", "oracle"), ("error_quote", "oracle")]
    assert [(trial.cell, trial.seed) for trial in made.trials] == [(c, s) for s in range(3) for c in range(4)]
    assert len(set(made.ids)) == 12
    assert {trial.recipe.seed for trial in made.trials} == {0, 1, 2}


def test_one_at_a_time_changes_one_part_each(plan):
    made = plan("rosd", "localizer=full,oracle", "reflector=tutor,oracle", design=Design("one_at_a_time"))
    assert table(made) == [("error_quote", "tutor"), ("full", "tutor"), ("oracle", "tutor"), ("error_quote", "oracle")]


def test_pairwise_has_every_possible_pair_in_fewer_trials(plan):
    words = ("localizer=error_quote,full,oracle", "reflector=tutor,oracle", "teacher=frozen,ema,live", "group_size=4,8")
    whole, few = plan("rosd", *words), plan("rosd", *words, design=Design("pairwise"))
    assert len(whole.cells) == 36 and not whole.skipped

    def pairs(made):
        return set().union(*(itertools.combinations(enumerate(row), 2) for row in table(made)))

    assert pairs(few) == pairs(whole)
    assert 9 <= len(few.cells) <= 12


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(*[st.sampled_from("012")] * 3), min_size=1, max_size=20))
def test_covering_pairs_leaves_none_out(rows):
    cells = [SimpleNamespace(settings=dict(zip("abc", row, strict=True))) for row in rows]
    chosen = cover_pairs(cells)
    assert set().union(*(pairs_of(c.settings) for c in chosen)) == set().union(*(pairs_of(c.settings) for c in cells))
    assert all(cell in cells for cell in chosen)


def test_random_draws_so_many_and_the_same_for_a_seed(plan):
    words = ("localizer=error_quote,full,oracle", "teacher=frozen,ema,live", "optimizer.lr=1e-4,2e-4,4e-4")
    first, again, other = (plan("rosd", *words, design=Design("random", 5, seed)) for seed in (0, 0, 1))
    assert table(first) == table(again) != table(other)
    assert len(first.cells) in (5, 6)  # the recipe itself comes first, drawn or not


def test_an_unknown_value_stops_everything_with_the_nearest(plan):
    with pytest.raises(RecipeError, match=r"localizer=eror_quote is possible in no combination.*Did you mean 'error_quote'"):
        plan("rosd", "localizer=eror_quote,full", "seed=0..2")


def test_an_unknown_field_stops_everything_with_the_nearest(plan):
    with pytest.raises(RecipeError, match=r"Did you mean 'boundary'"):
        plan("rosd", "localizer=error_quote,full", "localizer.boundry=quote,sentence")
    with pytest.raises(RecipeError, match=r"Did you mean 'localizer'"):
        plan("rosd", "localiser=full,oracle")


def test_an_impossible_combination_is_left_out_with_its_reason(plan):
    made = plan("rosd", "localizer=error_quote,full", "reflector=tutor,none", "context=key_idea,solution")
    (first, *rest) = made.skipped
    assert first.settings == {"localizer": "error_quote", "reflector": "none", "context": "key_idea"}
    assert "needs 'quote', which no chosen part provides" in first.reason
    assert len(made.cells) + len(made.skipped) == 8 and len(rest) >= 1


def test_an_option_counts_only_where_its_part_is_chosen(plan):
    made = plan("rosd", "localizer=error_quote,full", "localizer.boundary=quote,sentence")
    assert table(made) == [("error_quote", "quote"), ("error_quote", "sentence"), ("full", "-")]
    assert made.skipped == ()


def test_a_recipe_can_be_an_axis(plan):
    made = plan("rosd", "recipe=rosd,sdpo", "teacher=frozen,ema")
    assert table(made) == [("rosd", "frozen"), ("rosd", "ema"), ("sdpo", "frozen"), ("sdpo", "ema")]
    assert [cell.recipe.context.name for cell in made.cells] == ["key_idea", "key_idea", "solution", "solution"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("localizer=full",), "nothing is varied"),
        (("localizer=full,oracle", "evaluation.problems=0"), "nothing to compare"),
        (("localizer=full,oracle", "parallel.processes=2"), "one process"),
        (("name=a,b",), "cannot be varied"),
        (("seed=a,b",), "whole numbers"),
        (("optimizer.lr=1e-4,fast",), "possible in no combination"),
    ],
)
def test_what_cannot_be_swept_is_told(plan, words, said):
    with pytest.raises(RosdError, match=said):
        plan("rosd", *words)


def test_too_many_combinations_are_refused_before_any_is_resolved(plan):
    words = [f"sampling.max_new_tokens={','.join(map(str, range(10, 60)))}", "steps=1..50", "problems_per_step=1..50"]
    with pytest.raises(RecipeError, match="125000 combinations"):
        plan("rosd", *words)


def test_a_file_can_say_all_of_it_and_words_change_it(tmp_path, registry):
    (tmp_path / "own.yaml").write_text("extends: rosd\nsteps: 7\n")
    file = tmp_path / "mine.sweep.yaml"
    file.write_text(
        "sweep: mine\nrecipe: own.yaml\nset: {optimizer.lr: 1.0e-4}\nseeds: 3..4\n"
        "axes: {context: [key_idea, solution], localizer: [error_quote, full]}\n"
        "rules:\n"
        "- {when: {context: solution, localizer: full}, set: {reflector: none}, because: nobody reads it}\n"
        "- {when: {context: solution, localizer: error_quote}, skip: true, because: not asked for}\n"
    )
    made = make_plan(read_sweep(str(file)), registry)
    assert table(made) == [("key_idea", "error_quote"), ("key_idea", "full"), ("solution", "full")]
    assert [cell.recipe.reflector.name for cell in made.cells] == ["tutor", "tutor", "none"]
    assert made.cells[2].notes == ("reflector=none: nobody reads it",)
    assert [skipped.reason for skipped in made.skipped] == ["by rule: not asked for"]
    assert {(trial.seed, trial.recipe.steps, trial.recipe.optimizer.lr) for trial in made.trials} == {
        (3, 7, 1e-4),
        (4, 7, 1e-4),
    }
    changed = make_plan(read_sweep(str(file), ["seed=0", "steps=2", "localizer=error_quote,oracle"]), registry)
    assert {(trial.seed, trial.recipe.steps) for trial in changed.trials} == {(0, 2)}
    assert ("key_idea", "oracle") in table(changed)


@pytest.mark.parametrize(
    ("text", "said"),
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
def test_a_file_with_a_mistake_is_told(tmp_path, text, said):
    file = tmp_path / "bad.sweep.yaml"
    file.write_text(text)
    with pytest.raises(RecipeError, match=said):
        read_sweep(str(file))


def test_shipped_sweeps_are_found_by_name_and_resolve(registry):
    with pytest.raises(RecipeError, match=r"Did you mean 'recipes/ablations/idea-x-place.sweep.yaml'"):
        find_sweep("recipes/ablations/idea-x-plce.sweep.yaml")
    table4 = make_plan(read_sweep("recipes/ablations/idea-x-place.sweep.yaml"), registry)
    crossed = make_plan(read_sweep("recipes/ablations/method-x-teacher.sweep.yaml"), registry)
    assert len(table4.cells) == len(crossed.cells) == 4
    assert set(table4.ids) & set(crossed.ids) == {trial.id for trial in table4.trials if trial.cell == 0}


def test_an_identity_is_what_the_numbers_depend_on(registry):
    def of(*words, what="rosd"):
        return identity(load_recipe(what, words, registry=registry), registry)

    assert of() == of("localizer=error_quote", "checkpoint.every=3", "samples.every=0", "name=other")
    assert of() == of("watch.patience=3", "watch.entropy=0.9", "tracking.to=[tensorboard]", "tracking.project=other")
    assert of(what="rosd") == of(what="ablations/rosd-frozen")
    assert len({of(), of("seed=1"), of("steps=3"), of("localizer=full"), of("evaluation.problems=8")}) == 5


def test_an_identity_depends_on_the_content_of_a_plugins_file(tmp_path):
    text = (
        "import rosd_kit as rk\n\nclass Mine(rk.Localizer):\n    '''Everything.'''\n    name = 'mine'\n\n"
        "    def locate(self, case):\n        raise NotImplementedError\n\n"
        "@rk.hookimpl\ndef rosd_kit_components():\n    return [Mine]\n"
    )

    def of(folder, content, *words):
        folder.mkdir(exist_ok=True)
        (folder / "mine.py").write_text(content)
        own = PluginManager([folder / "mine.py"], selection="builtin").registry
        return identity(load_recipe("rosd", words, registry=own), own)

    same, moved = of(tmp_path / "a", text, "localizer=mine"), of(tmp_path / "b", text, "localizer=mine")
    assert same == moved != of(tmp_path / "a", text + "# changed\n", "localizer=mine")
    assert of(tmp_path / "a", text) == of(tmp_path / "a", text + "# changed\n")
