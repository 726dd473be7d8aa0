"""The tutorial as a reader follows it: from top to bottom in one folder, with the output that it shows."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from rosd_kit.cli import main
from tests.docs.test_snippets import BLOCK, TUTORIAL


class Reader:
    """Types what a page says; `output` is that of the last command.

    Commands of rosd-kit run in this process, which saves their start-up, and training stops at its dry run. `pip` installs
    packages, without their dependencies, into the reader's folder. Everything else runs in a shell.
    """

    def __init__(self, folder: Path, monkeypatch, capsys) -> None:
        self.folder, self.monkeypatch, self.capsys = folder, monkeypatch, capsys
        self.installed = folder / "installed"
        self.output = ""
        self.typed: list[str] = []

    def read(self, language: str, text: str) -> None:
        if language == "python":
            first = text.splitlines()[0]
            assert first.startswith("# ") and first.endswith(".py"), "the first line must be a comment that names the file"
            (self.folder / first.removeprefix("# ")).write_text(text)
        elif language == "console":
            self.output = "".join(self._type(line.removeprefix("$ ")) for line in text.splitlines())
        elif language == "text":
            for line in filter(None, text.splitlines()):
                assert " ".join(line.split()) in " ".join(self.output.split())
        else:
            assert language == ""

    def _type(self, line: str) -> str:
        self.typed.append(line)
        program, *words = shlex.split(line)
        if program == "rosd-kit":
            return self._call(words)
        if program == "pip":
            assert words[:2] == ["install", "-e"]
            options = ["-q", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(self.installed)]
            output = self._shell(shlex.join([sys.executable, "-m", "pip", "install", *options, *words[2:]]))
            self.monkeypatch.syspath_prepend(str(self.installed))
            return output
        return self._shell(line if program != "pytest" else f"{sys.executable} -m {line} -p no:cacheprovider")

    def _call(self, words: list[str]) -> str:
        if words[0] == "run" and "--dry-run" not in words:
            words = [*words, "problems_per_step=4", "--dry-run"]
        with pytest.raises(SystemExit) as end:
            main(words)
        output = self.capsys.readouterr()
        assert not end.value.code, output.err
        assert "warning" not in output.err
        return output.out

    def _shell(self, line: str) -> str:
        path = os.pathsep.join(map(str, [self.installed, *sys.path]))
        done = subprocess.run(line, shell=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path})
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def test_the_tutorial_works_from_top_to_bottom(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    reader = Reader(tmp_path, monkeypatch, capsys)
    monkeypatch.syspath_prepend(
        str(reader.installed)
    )  # now, so that the path that `plugins check FOLDER` adds is removed at the end
    for language, text in BLOCK.findall(TUTORIAL.read_text()):
        reader.read(language, text)
    assert len(reader.typed) == 15
    assert "departure ok (rosd-kit-departure 0.1.0)" in " ".join(reader._call(["plugins"]).split())
