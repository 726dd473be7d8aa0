"""The output of the commands."""

from __future__ import annotations

import json
import logging
import re
import warnings

import pytest

from rosd_kit.cli import main
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe.shipped import SHIPPED, shipped_names
from rosd_kit.version import __version__

COMMANDS = (
    *("", "run", "eval", "report", "push", "sweep", "sweep run", "sweep report", "sweep export"),
    *("show", "diff", "components", "recipes", "profiles", "tasks", "plugins", "schema", "doctor", "diagnose"),
)


REGISTRY = PluginManager(selection="builtin").registry
COMPONENTS = [(slot, name) for slot in REGISTRY.entries for name in REGISTRY.names(slot)]


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Return a function that calls `rosd-kit` and returns its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)

    def rosd_kit(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(words)
        captured = capsys.readouterr()
        return int(end.value.code or 0), captured.out, captured.err

    return rosd_kit


@pytest.mark.parametrize("command", COMMANDS)
def test_help_matches_its_golden_file(call, golden, command):
    code, out, _ = call(*command.split(), "--help")
    assert code == 0
    golden(f"help/{command.replace(' ', '-') or 'rosd-kit'}.txt", out)


def test_show_prints_every_value_with_its_source(call):
    code, out, _ = call("show", "rosd_v2", "optimizer.lr=0.5")
    lines = {line.split(":")[0].strip(): line for line in out.splitlines() if ":" in line}
    assert code == 0
    assert "# command line" in lines["lr"] and "0.5" in lines["lr"]
    assert "# profile micro" in lines["steps"]
    assert "sentence" in lines["boundary"] and "recipes/rosd_v2.yaml" in lines["boundary"]
    assert "# recipes/rosd.yaml" in lines["missing"]
    assert "# default" in lines["seed"]


def test_the_output_of_show_is_a_recipe_that_resolves_to_the_same_values(call, tmp_path):
    _, out, _ = call("show", "rosd")
    (tmp_path / "shown.yaml").write_text(out)
    _, again, _ = call("show", "shown.yaml")
    assert [line.split("#")[0].rstrip() for line in again.splitlines()] == [
        line.split("#")[0].rstrip() for line in out.splitlines()
    ]


def test_components_describes_all_slots_one_slot_or_one_component(call):
    _, everything, _ = call("components")
    for word in ("rollout", "tutor", "student_topk", "forward_kl", "policy_gradient", "mixed_groups"):
        assert word in everything
    _, slot, _ = call("components", "localizer")
    assert "error_quote" in slot and "skip_first" in slot and "tutor" not in slot
    _, component, _ = call("components", "localizer", "error_quote")
    for word in ("boundary", "quote | sentence", "missing", "min_ratio", "80.0", "Needs: quote", "builtin (rosd-kit"):
        assert word in component


@pytest.mark.parametrize("name", ["components", "show", "schema", "plugins", "doctor"])
def test_a_read_only_command_writes_no_file(call, tmp_path, name):
    code, out, _ = call(name, *(["rosd"] if name == "show" else []))
    assert code == 0 and out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("slot", "name"), COMPONENTS)
def test_every_component_is_described_with_its_options_and_origin(call, slot, name):
    code, out, _ = call("components", slot, name)
    assert code == 0 and "No description" not in out
    for option in REGISTRY.get(slot, name).Config.model_fields:
        assert f"  {option}: " in out
    for word in (f"{slot}: {name}", "Needs: ", "Provides: ", "From: builtin"):
        assert word in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "--nope"), "No such option: --nope"),
        (("show",), "RECIPE"),
        (("eval",), "RUN_OR_MODEL"),
    ],
)
def test_a_misused_command_exits_with_code_2_and_prints_its_usage(call, words, message):
    code, _, errors = call(*words)
    assert code == 2
    assert message in errors and "Usage: rosd-kit" in errors and "Traceback" not in errors


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("components", "localiser"), "Did you mean 'localizer'?"),
        (("components", "localizer", "ful"), "Did you mean 'full'?"),
        (("components", "task", "gsm8"), "Did you mean 'gsm8k'?"),
        (("run", "rosd", "--quiet", "--json"), "--quiet and --json exclude each other"),
        (("eval", "micro", "--quiet", "--json"), "--quiet and --json exclude each other"),
        (("show", "rosdd"), "Did you mean 'rosd'?"),
        (("run",), "rosd-kit run RECIPE"),
        (("run", "rosd", "stepz=3"), "Did you mean 'steps'?"),
        (("run", "rosd", "--steps", "3"), "Fields of a recipe are given without dashes: steps=VALUE"),
        (("run", "rosd", "--learning-rate=3"), "Fields of a recipe are given without dashes: optimizer.lr=VALUE"),
        (("sweep", "rosd", "--localizer", "full"), "without dashes: localizer=VALUE"),
        (("show", "rosd", "--max-new-tokens", "8"), "without dashes: sampling.max_new_tokens=VALUE"),
        (("run", "rosd", "--output-dir", "x"), "error: --output-dir: rosd-kit run has no such option. Did you mean --out?"),
        (("run", "rosd", "output_dir=x"), "It is no field of a recipe: give the command --out, as rosd-kit run --help says."),
        (("run", "rosd", "--plugin", "missing.py"), "no file 'missing.py'"),
        (("run", "--resume", "nowhere"), "nowhere"),
        (("run", "rosd", "--name", "../up"), "'../up' is not allowed"),
        (("run", "rosd", "model.path=/no/such/model", "--dry-run"), "model.path"),
        (("eval", "/no/such/model"), "/no/such/model"),
    ],
)
def test_a_users_mistake_exits_with_code_2_and_prints_one_message(call, words, message):
    code, _, errors = call(*words)
    assert code == 2
    assert message in errors and "Traceback" not in errors
    assert errors.startswith("error: ")


def test_schema_prints_json_with_all_slots(call):
    _, out, _ = call("schema")
    schema = json.loads(out)
    assert {"localizer", "reflector", "extends", "profile", "steps"} <= schema["properties"].keys()


def test_plugins_lists_the_built_in_plugin(call):
    _, out, _ = call("plugins")
    assert "builtin" in out and "rosd-kit" in out


def test_doctor_prints_no_noise_of_libraries(call, monkeypatch):
    import rosd_kit.memory

    estimate = rosd_kit.memory.estimate_memory

    def noisy(*arguments, **options):
        logging.getLogger("a_library").warning("Failed to load kernels")
        warnings.warn("this is deprecated", FutureWarning, stacklevel=1)
        return estimate(*arguments, **options)

    monkeypatch.setattr(rosd_kit.memory, "estimate_memory", noisy)
    code, out, err = call("doctor", "rosd")
    assert code == 0 and "fits" in out and err == ""
    assert "Failed to load" not in out and "deprecated" not in out
    assert logging.root.manager.disable == logging.NOTSET


def test_doctor_lists_versions_devices_and_profiles(call):
    code, out, _ = call("doctor")
    assert code == 0
    for word in ("torch", "transformers", "cpu", "micro", "smol", "one-gpu", "paper-4b", "paper-8b"):
        assert word in out


def sections(out: str) -> dict[str, str]:
    """Return the sections of a dry run's output by heading."""
    _, *parts = re.split(r"^(\S.*?) ─+$", out, flags=re.M)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def test_a_dry_run_shows_a_sample_end_to_end_and_writes_nothing(call, tmp_path):
    code, out, _ = call("run", "rosd", "--dry-run", "problems_per_step=8")
    printed = sections(out)
    assert code == 0
    assert "?" in printed["student prompt"]
    assert printed["response and its verdict"].strip()
    assert "Find first error" in printed["reflection prompt"]
    (teacher,) = (body for title, body in printed.items() if title.startswith("teacher prompt"))
    (weighted,) = (body for title, body in printed.items() if title.startswith("weighted tokens"))
    assert teacher.strip() != printed["student prompt"].strip()
    response = printed["response and its verdict"].strip().splitlines()[0]
    assert weighted.strip().endswith("]") and weighted.count("[") == weighted.count("]") >= 1
    assert weighted.replace("[", "").replace("]", "").strip().startswith(response)
    assert re.match(
        r"loss -?[\d.e-]+ \(distill -?[\d.e-]+\) over [1-9]\d* weighted tokens of problem sums-\S+; gradient [\d.]*[1-9]",
        printed["loss"].strip(),
    )
    assert "rosd: valid; " in out and "nothing was trained" in out
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_with_the_oracle_shows_the_idea_to_the_teacher_and_weights_the_true_error(call):
    code, out, _ = call("run", "rosd", "--dry-run", "problems_per_step=8", "reflector=oracle", "localizer=oracle")
    printed = sections(out)
    assert code == 0
    assert "reflection prompt" not in printed
    assert "Key idea" in printed["teacher prompt (idea)"] and "Key idea" not in printed["student prompt"]
    (weighted,) = (body for title, body in printed.items() if title.startswith("weighted tokens"))
    assert "[" in weighted


def test_a_dry_run_of_a_policy_gradient_shows_no_teacher(call):
    code, out, _ = call("run", "grpo", "--dry-run", "problems_per_step=8")
    assert code == 0
    assert not [title for title in sections(out) if title.startswith(("teacher", "reflection"))]


def test_a_dry_run_without_training_samples_is_an_error(call):
    code, _, errors = call("run", "rosd", "--dry-run", "problems_per_step=1", "group_size=2", "sampling.max_new_tokens=1")
    assert code == 2
    assert "no sample to train on in 5 steps: 5 groups all wrong" in errors and "sampling.max_new_tokens" in errors


def test_the_version_is_printed(call):
    assert call("--version")[:2] == (0, f"rosd-kit {__version__}\n")


@pytest.mark.parametrize(("command", "folder"), [("recipes", ""), ("profiles", "profiles")])
def test_every_shipped_file_is_listed_with_its_first_sentence(call, command, folder):
    code, out, _ = call(command)
    assert code == 0
    for name in shipped_names(folder):
        assert re.search(rf"^{re.escape(name)} +\S", out, re.M), name
    assert str(SHIPPED / folder) in out.replace("\n", "")


def test_tasks_and_presets_are_listed_with_their_origin(call):
    code, out, _ = call("tasks")
    assert code == 0
    assert re.search(r"^dataset +\S", out, re.M) and "From rosd-kit." in " ".join(out.split())
    for name in shipped_names("tasks"):
        assert re.search(rf"^{re.escape(name)} +Preset\. ", out, re.M), name


@pytest.mark.parametrize("name", ["error-quote", "error_quote", "rosd-kit-error-quote"])
def test_a_new_plugin_may_not_take_a_known_name(call, tmp_path, name):
    code, _, errors = call("plugins", "new", name, "--kind", "localizer", "--out", str(tmp_path))
    assert code == 2 and "there is a localizer 'error_quote' already, from builtin. Choose another name." in errors
    assert list(tmp_path.iterdir()) == []


def test_the_plugins_are_listed_with_and_without_the_word_list(call):
    assert call("plugins", "list") == call("plugins") and "builtin  ok" in call("plugins", "list")[1]


def test_sweep_help_shows_the_options_of_a_sweep(call):
    _, out, _ = call("sweep", "--help")
    for option in ("--pairwise", "--jobs", "--launcher", "--dry-run"):
        assert option in out


def test_show_says_whose_profile_is_in_the_values(call):
    first = call("show", "rosd")[1].splitlines()[0]
    assert first.startswith("profile: none ") and first.endswith("# the values of profile micro are written out below")
    assert call("show", "rosd", "--profile", "smol")[1].splitlines()[0].endswith("profile smol are written out below")


@pytest.mark.parametrize(
    ("word", "meant"), [("train", "Did you mean rosd-kit run RECIPE?"), ("reprot", "Did you mean 'report'?"), ("xyz", "")]
)
def test_an_unknown_command_is_answered_with_the_one_that_is_meant(call, word, meant):
    code, _, errors = call(word, "rosd")
    assert code == 2 and errors.strip() == " ".join(
        f"error: there is no command {word!r}. {meant} See: rosd-kit --help".split()
    )
