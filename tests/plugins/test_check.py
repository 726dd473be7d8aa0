"""`rosd-kit plugins check`: a report that a person can act on, and an exit code that a script can."""

from __future__ import annotations

import builtins

import pytest

from rosd_kit.cli import main

FORGETS_THE_LAST = """
from __future__ import annotations

import rosd_kit as rk

rosd_kit_api = 2


class Forgetful(rk.Reflector):
    \"\"\"Skips every case, and forgets the last.\"\"\"

    name = "forgetful"

    def reflect(self, cases, generate):
        return [rk.Reflection(status="skipped") for _ in cases][:-1]


@rk.hookimpl
def rosd_kit_components():
    return [Forgetful]
"""

NEEDS_AN_OPTION = '''
import rosd_kit as rk

class AfterWord(rk.Localizer):
    """Weights the tokens from a word on."""
    name = "after_word"
    class Config(rk.Config):
        """Where to begin."""
        word: str
        """The word."""
    def locate(self, case):
        start = case.rollout.completion.text.find(self.config.word)
        weights = tuple(float(end > start) for _, end in case.rollout.completion.token_spans)
        return rk.TokenWeights(weights=weights, outcome="found" if start >= 0 else "missing")

@rk.hookimpl
def rosd_kit_components():
    return [AfterWord]
'''


@pytest.fixture
def check(tmp_path, capsys):
    """Check a plugin of this source and return the exit code and all that was printed."""

    def run(source: str | None, *words: str) -> tuple[int, str]:
        file = tmp_path / "subject.py"
        if source is not None:
            file.write_text(source)
            words = (str(file), *words)
        with pytest.raises(SystemExit) as end:
            main(["plugins", "check", *words])
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out + said.err

    return run


def test_a_good_plugin_keeps_all_laws(check, good):
    code, said = check(good)
    assert code == 0 and "all laws are kept" in said and "0 broken" in said


def test_a_broken_law_is_named_with_what_was_found_and_where(check, good):
    code, said = check(good.replace("(1.0,)", "(2.0,)"))
    assert code == 1
    for part in (
        "broken: weights_are_shares",
        "Every weight of `locate` is a number from 0 to 1.",
        "the weight of token 0 is 2.0",
    ):
        assert part in said
    code, said = check(good.replace("return rk.Tok", "case.reflection.quote.strip()\n        return rk.Tok"))
    assert code == 1 and "it raised AttributeError" in said and "line 8 of" in said and "subject.py" in said


def test_laws_that_fail_for_one_reason_are_told_once(check):
    source = NEEDS_AN_OPTION.replace("word: str\n", 'word: str = "x"\n').replace("start = case", "start = case.missing")
    code, said = check(source)
    assert code == 1
    assert said.count("'Case' object has no attribute 'missing'") == 1
    [line] = [line for line in said.splitlines() if "laws for one reason" in line]
    assert "one_weight_per_token" in line and "is_stateless" in line
    assert int(line.split("broken, ")[1].split()[0]) == line.count(",")


def test_a_reflector_that_returns_too_few_is_told_so_once(check):
    code, said = check(FORGETS_THE_LAST)
    assert code == 1
    [found] = [line.strip() for line in said.splitlines() if line.strip().startswith("found:")]
    assert found == "found: 21 reflections for 22 cases"
    [line] = [line for line in said.splitlines() if "laws for one reason" in line]
    assert "one_reflection_per_case" in line and "reports_failed_generation" in line


def test_an_option_that_must_be_given_takes_an_example_or_the_command_line(check):
    code, said = check(NEEDS_AN_OPTION)
    assert code == 1 and "not checked" in said and "after_word.word=..." in said
    assert check(NEEDS_AN_OPTION, "after_word.word=Answer")[0] == 0
    shown = NEEDS_AN_OPTION.replace("word: str\n", 'word: str = pydantic.Field(examples=["Answer"])\n')
    assert check("import pydantic\n" + shown)[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("after_word.wrod=Answer",), "wrod"),
        (("after_wrod.word=Answer",), "Did you mean 'after_word'?"),
        (("after_word=Answer",), "NAME.OPTION=VALUE"),
    ],
)
def test_a_mistake_in_an_option_is_an_error(check, words, message):
    code, said = check(NEEDS_AN_OPTION, *words)
    assert code and message in said and "Traceback" not in said


def test_a_plugin_that_cannot_be_used_fails(check, good, install):
    code, said = check(good.replace("rosd_kit_components", "rosd_kit_component"))
    assert code == 1 and "Did you mean 'rosd_kit_components'?" in said
    install("bad_kit", "import no_such_module_anywhere")
    code, said = check(None, "bad_kit")
    assert code == 1 and "No module named 'no_such_module_anywhere'" in said


def test_a_file_that_is_no_plugin_is_reported(check, tmp_path):
    for word, message in [
        ("no_such_kit", "neither a file, nor a folder, nor an installed plugin"),
        (str(tmp_path), "holds no pyproject.toml"),
        (str(tmp_path / "gone.py"), "no file"),
    ]:
        code, said = check(None, word)
        assert code == 2 and message in said


def test_a_source_folder_is_checked_without_being_installed(check, good, tmp_path):
    root = tmp_path / "kit"
    (root / "src").mkdir(parents=True)
    (root / "pyproject.toml").write_text(
        '[project]\nname = "folder-kit"\n[project.entry-points.rosd_kit]\nfolder = "folder_module"\n'
    )
    (root / "src/folder_module.py").write_text(good)
    code, said = check(None, str(root))
    assert code == 0 and "folder (folder-kit" in said
    (root / "pyproject.toml").write_text('[project]\nname = "folder-kit"\n')
    assert "has no entry point" in check(None, str(root))[1]


def test_pytest_and_hypothesis_are_not_needed(check, good, monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest, **more):
        assert name.split(".")[0] not in ("pytest", "_pytest", "hypothesis"), f"{name} was imported"
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    assert check(good)[0] == 0
