"""What the commands print, as a user reads it."""

from __future__ import annotations

import json

import pytest

from rosd_kit.cli import main

COMMANDS = ("", "run", "eval", "show", "components", "plugins", "schema", "doctor")


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Call `rosd-kit` with these words and return its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)

    def rosd_kit(*words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as end:
            main(words)
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out, said.err

    return rosd_kit


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_as_written_down(call, golden, command):
    code, out, _ = call(*filter(None, (command, "--help")))
    assert code == 0
    golden(f"help/{command or 'rosd-kit'}.txt", out)


def test_show_tells_every_value_with_its_origin(call):
    code, out, _ = call("show", "rosd_v2", "optimizer.lr=0.5")
    lines = {line.split(":")[0].strip(): line for line in out.splitlines() if ":" in line}
    assert code == 0
    assert "# command line" in lines["lr"] and "0.5" in lines["lr"]
    assert "# profile micro" in lines["steps"]
    assert "sentence" in lines["boundary"] and "recipes/rosd_v2.yaml" in lines["boundary"]
    assert "# recipes/rosd.yaml" in lines["missing"]
    assert "# default" in lines["seed"]


def test_what_show_prints_runs_again(call, tmp_path):
    _, out, _ = call("show", "rosd")
    (tmp_path / "shown.yaml").write_text(out)
    _, again, _ = call("show", "shown.yaml")
    assert [line.split("#")[0].rstrip() for line in again.splitlines()] == [
        line.split("#")[0].rstrip() for line in out.splitlines()
    ]


def test_components_lists_all_slots_one_slot_or_one_part(call):
    _, everything, _ = call("components")
    for word in ("rollout", "tutor", "student_topk", "forward_kl", "policy_gradient", "mixed_groups"):
        assert word in everything
    _, slot, _ = call("components", "localizer")
    assert "error_quote" in slot and "skip_first" in slot and "tutor" not in slot
    _, part, _ = call("components", "localizer", "error_quote")
    for word in ("boundary", "quote | sentence", "missing", "min_ratio", "80.0", "Needs: quote", "builtin (rosd-kit"):
        assert word in part


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("components", "localiser"), "Did you mean 'localizer'?"),
        (("components", "localizer", "ful"), "Did you mean 'full'?"),
        (("show", "rosdd"), "Did you mean 'rosd'?"),
        (("run",), "rosd-kit run RECIPE"),
        (("run", "rosd", "stepz=3"), "Did you mean 'steps'?"),
        (("run", "rosd", "--plugin", "missing.py"), "no file 'missing.py'"),
        (("run", "--resume", "nowhere"), "nowhere"),
        (("run", "rosd", "--name", "../up"), "'../up' is not allowed"),
        (("run", "rosd", "model.path=/no/such/model", "--dry-run"), "model.path"),
        (("eval", "/no/such/model"), "/no/such/model"),
    ],
)
def test_a_users_mistake_ends_with_code_2_and_one_message(call, words, told):
    code, _, errors = call(*words)
    assert code == 2
    assert told in errors and "Traceback" not in errors
    assert errors.startswith("error: ")


def test_schema_is_json_with_all_slots(call):
    _, out, _ = call("schema")
    schema = json.loads(out)
    assert {"localizer", "reflector", "extends", "profile", "steps"} <= schema["properties"].keys()


def test_plugins_lists_the_built_in_one(call):
    _, out, _ = call("plugins")
    assert "builtin" in out and "rosd-kit" in out


def test_doctor_tells_versions_devices_and_what_each_profile_lacks(call):
    code, out, _ = call("doctor")
    assert code == 0
    for word in ("torch", "transformers", "cpu", "micro", "one-gpu", "paper"):
        assert word in out


def test_a_dry_run_shows_a_sample_end_to_end_and_leaves_nothing(call, tmp_path):
    code, out, _ = call("run", "rosd", "--dry-run", "problems_per_step=4")
    assert code == 0
    for word in (
        "student prompt",
        "reflection prompt",
        "Find first error",
        "teacher prompt",
        "Key idea",
        "weighted tokens",
        "nothing was trained",
    ):
        assert word in out
    assert list(tmp_path.iterdir()) == []
