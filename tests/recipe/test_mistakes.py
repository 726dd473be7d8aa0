"""Every mistake in a recipe is one message: field, value, what is allowed, the nearest match or the remedy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from rosd_kit.cli import main
from rosd_kit.errors import RecipeError
from rosd_kit.model.student import Student
from rosd_kit.recipe import load_recipe
from rosd_kit.recipe.model import CoreSettings

NO_PROFILE = ("profile=none", "task=micro", "verifier=micro", "rollout=transformers")
CHANGES = {
    "unknown section's field": ("optimizer.lrr=3", ["optimizer.lrr", "command line", "Did you mean 'lr'?", "rosd-kit schema"]),
    "unknown nested field": ("model.lora={rnk: 3}", ["model.lora.rnk", "Did you mean 'rank'?", "alpha, dropout"]),
    "unknown component": ("localizer=error_qoute", ["localizer", "'error_qoute'", "Did you mean 'error_quote'?", "Known: "]),
    "option of a part without any": ("teacher.clip=1", ["teacher.clip", "It takes no options", "teacher frozen"]),
    "no number": ("optimizer.lr=high", ["optimizer.lr", "'high'", "command line", "valid number"]),
    "out of range": ("optimizer.lr=-1", ["optimizer.lr", "-1", "greater than 0"]),
    "an option out of range": ("divergence.beta=2", ["divergence.beta", "2", "less than 1", "components divergence jsd"]),
    "a text that ends everything": ("sampling.stop=['']", ["sampling.stop.0", "at least 1 character"]),
    "no list of texts": ("evaluation.stop=true", ["evaluation.stop", "True", "valid array"]),
    "a limit below none": ("sampling.top_k=-1", ["sampling.top_k", "-1", "greater than or equal to 0"]),
    "more than the likeliest": ("sampling.min_p=2", ["sampling.min_p", "2", "less than or equal to 1"]),
    "no share": ("optimizer.betas=[2, 0.9]", ["optimizer.betas.0", "2", "less than 1"]),
    "not a word of the list": ("optimizer.name=adam", ["Did you mean 'adamw'?", "Allowed: 'adamw', 'adamw8bit' or 'muon'"]),
    "true is no integer": ("steps=true", ["steps", "True", "valid integer"]),
    "a text is no integer": ("steps='3'", ["steps", "'3'", "valid integer"]),
    "a fraction is no integer": ("steps=3.5", ["steps", "3.5", "valid integer"]),
    "infinity": ("seed=1e400", ["seed", "inf", "valid integer"]),
    "not a number": ("optimizer.lr=.nan", ["optimizer.lr", "nan"]),
    "a section is no number": ("model=3", ["model", "3", "Did you mean model.path=...?"]),
    "a name that leads elsewhere": ("name='../up'", ["name", "'../up'", "pattern"]),
    "no equals sign": ("steps", ["'steps'", "field=value", "optimizer.lr=1e-5"]),
    "no field": ("=3", ["'=3'", "field=value"]),
    "no YAML": ("steps=[", ["'steps=['", "not valid YAML", "line 1"]),
    "a tag": ("seed=!!int 3", ["YAML tags", "plain values"]),
    "a resolver": ("name=${oc.env:HOME}", ["${oc.env:HOME}", "field=value"]),
    "unknown profile": ("profile=mikro", ["profile", "'mikro'", "Did you mean 'micro'?", "one-gpu, paper-4b, paper-8b, smol"]),
    "a profile that is no name": ("profile=3", ["profile", "3", "none"]),
    "no profile and no task": ("profile=none", ["task", "`task: NAME`", "profile", "micro_corpus"]),
    "null for a slot": ("localizer=null", ["localizer", "command line", "write `none`"]),
    "a number for a slot": ("localizer=3", ["localizer", "3", "{name: ..., option: ...}"]),
    "a slot without a name": ("localizer.name=null", ["localizer", "name: ...", "error_quote"]),
    "no terms": ("objective=[]", ["objective", "objective=distill"]),
    "a term twice": ("objective=[distill, distill]", ["objective", "'distill'", "once"]),
    "a term that is not there": ("objective.3.weight=1", ["objective.3", "Terms: 1", "from 0"]),
    "a negative weight": ("objective.weight=-1", ["objective.weight", "-1", "greater than or equal to 0"]),
    "no weight at all": ("objective.weight=0", ["objective", "weight above 0"]),
    "no quote for the localizer": ("reflector=none", ["localizer", "'error_quote'", "'quote'", "reflector tutor"]),
    "no solution to compare with": ("demonstration=none", ["reflector", "'tutor'", "'demonstration'", "shortest_success"]),
    "no adapter to switch off": ("teacher=adapter_off", ["teacher", "'adapter_off'", "'lora'", "model.lora.rank=16"]),
    "no siblings": ("group_size=1", ["demonstration", "'group'", "Set group_size to 2"]),
}
TEXTS = {
    "unknown field": ("localiser: full", ["localiser", "mine.yaml", "Did you mean 'localizer'?", "rosd-kit schema"]),
    "unknown option": (
        "localizer: {name: error_quote, boundry: 1}",
        ["localizer.boundry", "'boundary'", "missing, match, min"],
    ),
    "unknown base": ("extends: rosdd", ["'rosdd'", "Did you mean 'rosd'?", "Shipped recipes: "]),
    "missing base": ("extends: gone.yaml", ["no file 'gone.yaml'", ".yaml"]),
    "two bases": ("extends: [a, b]", ["extends", "['a', 'b']", "mine.yaml", "one file or name"]),
    "a circle": ("extends: mine.yaml", ["extends", "mine.yaml -> mine.yaml", "cycle", "Remove"]),
    "presets in a recipe": ("components: {}", ["components", "mine.yaml", "profile"]),
    "a list": ("- a", ["mine.yaml", "mapping", "`steps: 100`"]),
    "a scalar": ("3", ["mine.yaml", "mapping"]),
    "broken YAML": ("steps: 3\na: [", ["mine.yaml", "not valid YAML", "line 2"]),
    "a field twice": ("steps: 3\nsteps: 4", ["mine.yaml", "line 2", "duplicate key steps"]),
    "a number for a key": ("1: 2", ["mine.yaml", "the key 1", "quotes"]),
    "too deep": ("x: " + "[" * 50 + "]" * 50, ["mine.yaml", "32 levels"]),
    "too large": ("x" * (1 << 20) + "y", ["mine.yaml", "1 MiB"]),
    "not text": (b"\xff\xfe", ["mine.yaml", "cannot be read as text"]),
    "an alias": ("x: &a [1]\ny: *a", ["mine.yaml, line 2", "aliases", "${section.field}"]),
    "a reference to nothing": ("name: ${optimizer.lrr}\noptimizer: {lr: 0.1}", ["name", "${optimizer.lrr}", "'optimizer.lr'"]),
    "a reference to a section": ("steps: ${optimizer}\noptimizer: {lr: 0.1}", ["steps", "not the path of a value"]),
    "a reference to a reference": ("seed: ${steps}\nsteps: ${group_size}", ["seed", "another reference", "value itself"]),
    "a reference that does not end": ("name: ${steps", ["mine.yaml", "line 1", "'${steps'"]),
    "a bomb of references": ("\n".join(f"a{i}: ${{steps}}" for i in range(101)), ["101", "at most 100"]),
}
PROFILES = {
    "another profile": ("profile: micro", ["profile", "where.yaml", "extends"]),
    "presets that are no mapping": ("components: 3", ["components", "3", "profile where.yaml", "mapping"]),
    "a preset that is no mapping": ("components: {localizer: full}", ["components.localizer", "'full'", "mapping"]),
    "presets of an unknown slot": ("components: {localiser: {}}", ["'localiser'", "Did you mean 'localizer'?"]),
    "presets of an unknown part": ("components: {localizer: {fulll: {}}}", ["'fulll'", "Did you mean 'full'?"]),
    "an unknown preset": (
        "components: {localizer: {error_quote: {boundry: quote}}}",
        ["components.localizer.error_quote.boundry", "profile where.yaml", "'boundary'", "components localizer error_quote"],
    ),
}


@pytest.mark.parametrize("mistake", CHANGES)
def test_a_mistake_on_the_command_line_is_an_error(refuse, mistake):
    change, parts = CHANGES[mistake]
    assert_mentions(refuse("extends: rosd", change), parts)


@pytest.mark.parametrize("mistake", TEXTS)
def test_a_mistake_in_a_recipe_is_an_error(refuse, mistake):
    text, parts = TEXTS[mistake]
    assert_mentions(refuse(text), parts)


@pytest.mark.parametrize("mistake", PROFILES)
def test_a_mistake_in_a_profile_is_an_error(refuse, tmp_path, mistake):
    text, parts = PROFILES[mistake]
    (tmp_path / "where.yaml").write_text(f"extends: micro\n{text}")
    assert_mentions(refuse("extends: rosd", "profile=where.yaml"), parts)


def assert_mentions(message: str, parts: list[str]) -> None:
    missing = [part for part in parts if part not in message]
    assert not missing, message


def test_up_to_six_mistakes_are_reported_at_once(refuse):
    lines = refuse("extends: rosd", "steps=0", "seed=x", "optimizer.lr=0").splitlines()
    assert [line.split(":")[0] for line in lines] == ["seed", "steps", "optimizer.lr", "See"]
    assert "... and 3 more" in refuse("\n".join(f"field_{i}: 1" for i in range(9)))


def test_a_required_option_that_no_layer_sets_is_named(refuse):
    message = refuse("extends: rosd", *NO_PROFILE)
    assert_mentions(message, ["steps: must be given", "steps=...", "problems_per_step: must be given", "group_size=..."])


def test_a_change_that_fits_several_terms_must_say_which(refuse):
    message = refuse("extends: rosd", "objective=[distill, sft]", "objective.weight=3")
    assert_mentions(message, ["2 terms", "objective.0.weight="])


def test_a_cycle_of_files_is_shown_whole(refuse, tmp_path):
    (tmp_path / "a.yaml").write_text("extends: b.yaml")
    (tmp_path / "b.yaml").write_text("extends: mine.yaml")
    assert "mine.yaml -> a.yaml -> b.yaml -> mine.yaml is a cycle" in refuse("extends: a.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "x: !!python/object/apply:os.system ['touch hostile']",
        "x: !!python/object/new:os.system ['touch hostile']",
        "x: !!python/name:os.system",
        "x: !!python/module:hostile",
        "!!python/object/apply:os.system ['touch hostile']",
        "name: ${oc.env:SECRET}",
        "name: ${oc.decode:${oc.env:SECRET}}",
        "? ${oc.env:SECRET}\n: 1",
        "extends: ${oc.env:SECRET}",
        "localizer: os.system",
        "localizer: {name: full, _target_: os.system}",
        "task: 'builtins:exec'",
    ],
)
def test_hostile_yaml_neither_runs_nor_reads_anything(refuse, monkeypatch, tmp_path, text):
    monkeypatch.setenv("SECRET", "rosd-hidden-value")
    message = refuse(text)
    assert "rosd-hidden-value" not in message
    assert [path.name for path in tmp_path.iterdir()] == ["mine.yaml"]
    assert "hostile" not in sys.modules


def test_billion_laughs_are_refused_at_the_first_alias(refuse):
    text = "a0: &a0 [x]\n" + "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12))
    assert "mine.yaml, line 2: YAML aliases" in refuse(text)


@pytest.mark.parametrize("overrides", [["steps=1"] * 1_000_000, ["name=" + "a" * 2_000_000]])
def test_a_flood_of_overrides_is_refused_before_any_is_read(registry, overrides):
    with pytest.raises(RecipeError, match=rf"{len(overrides)} overrides of \d+ characters; at most 1000 of 1048576"):
        load_recipe("rosd", overrides, registry=registry)


FIELDS = [
    *CoreSettings.model_fields,
    "localizer",
    "objective",
    "objective.0",
    "optimizer.lr",
    "profile",
    "extends",
    "components",
]
VALUES = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["[", "{a: 1}", "[1, {b: 2}]", "null", ".inf", "full", "${steps}", "2001-01-01", "? a", "- ", "<<", "@x", "%y"]
    ),
    st.integers().map(str),
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(field=st.sampled_from(FIELDS), value=VALUES)
@example(field="seed", value="2001-01-01")
@example(field="localizer", value="{1: 2}")
@example(field="objective", value="{0: {1: 2}}")
@example(field="model", value="{lora: {target_modules: [1]}}")
def test_any_text_is_a_recipe_or_a_recipe_error(registry, field, value):
    try:
        recipe = load_recipe("rosd", [f"{field}={value}"], registry=registry)
    except RecipeError as error:
        assert str(error)
    else:
        assert recipe.steps > 0


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(text=st.text(alphabet=":-{}[]!&*?|>%@`#,'\"$ \n\tab1.~", max_size=30))
def test_random_bytes_in_a_file_are_a_recipe_error(registry, tmp_path, text):
    file = tmp_path / "any.yaml"
    file.write_text(f"extends: rosd\nx{text}")
    with pytest.raises(RecipeError):
        load_recipe(file, registry=registry)


def test_mistakes_are_found_before_a_model_is_loaded(monkeypatch, capsys):
    def load(*arguments, **options):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(Student, "load", load)
    with pytest.raises(SystemExit) as end:
        main(["run", "rosd", "localizer=error_qoute"])
    assert end.value.code == 2
    assert "Did you mean 'error_quote'?" in capsys.readouterr().err


def test_help_imports_neither_torch_nor_transformers():
    code = "import sys; from rosd_kit.cli import main\ntry: main(['--help'])\nexcept SystemExit: print(sorted(sys.modules))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "Train with a recipe" in said and "'rosd_kit.plugins.manager'" in said
    assert "'torch'" not in said and "'transformers'" not in said and "'pydantic'" not in said


@pytest.mark.parametrize("name", ["rosd.yaml", "rosd.yml", "mine/recipes/rosd.yaml", "/recipes/rosd.yaml"])
def test_a_users_missing_file_is_never_taken_for_a_shipped_recipe(registry, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError) as caught:
        load_recipe(name, registry=registry)
    assert_mentions(str(caught.value), [f"no file {str(Path(name))!r}", "Shipped recipes: "])


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["steps", "5"],
            "override 'steps' is not of the form field=value, for example optimizer.lr=1e-5. Did you mean steps=5?",
        ),
        (["steps", "seed=5"], "override 'steps' is not of the form field=value, for example optimizer.lr=1e-5."),
    ],
)
def test_a_value_behind_a_space_is_answered_with_an_equals_sign(registry, words, told):
    with pytest.raises(RecipeError) as caught:
        load_recipe("rosd", words, registry=registry)
    assert str(caught.value) == told


def test_a_number_in_quotation_marks_is_told_apart_from_a_wrong_word(registry, tmp_path):
    (tmp_path / "r.yaml").write_text("extends: rosd\nsteps: '10'\n")
    with pytest.raises(RecipeError, match=r"steps: '10' .* valid integer. Write it without quotation marks."):
        load_recipe(tmp_path / "r.yaml", registry=registry)
    with pytest.raises(RecipeError) as caught:
        load_recipe("rosd", ["steps=ten"], registry=registry)
    assert "quotation" not in str(caught.value)


def test_a_recipe_without_a_method_is_told_to_extend_one(registry, tmp_path):
    file = tmp_path / "bare.yaml"
    for text in ("", "steps: 3\n"):
        file.write_text(text)
        with pytest.raises(
            RecipeError, match=r"names no component and extends no recipe. Begin with a method: `extends: rosd`"
        ):
            load_recipe(file, registry=registry)


def test_a_file_or_folder_that_is_no_recipe_file_is_not_called_missing(registry, tmp_path):
    (tmp_path / "r.json").write_text("{}")
    (tmp_path / "folder.yaml").mkdir()
    with pytest.raises(RecipeError, match=r"r.json' is not a .yaml file. Write the recipe as YAML"):
        load_recipe(tmp_path / "r.json", registry=registry)
    with pytest.raises(RecipeError, match=r"folder.yaml' is a folder, not a file"):
        load_recipe(tmp_path / "folder.yaml", registry=registry)
