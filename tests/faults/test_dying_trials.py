"""Trials whose process ends without finishing them, whatever its exit code says, are not started for ever."""

from __future__ import annotations

import pytest

from rosd_kit.sweep import scheduler as module
from rosd_kit.sweep import worker
from rosd_kit.sweep.launchers import Handle, Launcher
from rosd_kit.sweep.lease import LeaseHolder
from rosd_kit.sweep.scheduler import Scheduler
from rosd_kit.sweep.store import Store


class Exits(Launcher, Handle):
    """A launcher, and the handle of its one command, which has already ended. `work` is called when a command starts."""

    def __init__(self, code, work=lambda: None):
        self.code, self.work, self.launched = code, work, 0

    def launch(self, command, slot):
        assert self.launched < 10, "the trial is started for ever"
        self.launched += 1
        self.work()
        return self

    def poll(self):
        return self.code


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.001)
    monkeypatch.setattr(module, "_IDLE_POLL_SECONDS", 0.001)
    with Store(tmp_path, create=True) as store:
        store.add([("00", "recipe", 0)], [])
    return tmp_path


def work_through(folder, launcher):
    """Run the scheduler to its end; return the trial and the lines that were shown."""
    lines = []
    assert Scheduler(folder=folder, ids=["00"], launcher=launcher, jobs=1, threads=1, notify=lines.append).run()
    with Store(folder) as store:
        return store.rows()["00"], lines


@pytest.mark.parametrize("code", [worker.DONE, worker.FAILED, worker.NOT_HELD])
def test_an_exit_code_that_the_store_contradicts_is_a_death(folder, code):
    row, lines = work_through(folder, launcher := Exits(code))
    assert launcher.launched == 3 and row.state == "failed"
    assert f"died 3 times, the last time with exit code {code} although the trial was not finished; see" in row.error
    assert [line.partition(":")[0] for line in lines] == ["trial 00", "trial 00", "[1/1] trial 00 failed"]


def release(folder):
    """End as a worker does whose run was stopped: give the trial back."""
    with Store(folder) as store:
        assert store.release("00", store.rows()["00"].holder.token)


def test_a_trial_that_always_stops_without_progress_fails(folder):
    row, _ = work_through(folder, launcher := Exits(worker.STOPPED, lambda: release(folder)))
    assert launcher.launched == 4 and row.state == "failed"
    assert "a stop that nobody asked for" in row.error


def test_a_trial_that_stops_often_but_progresses_finishes(folder):
    def save_a_step_or_finish():
        (folder / f"trials/00/checkpoints/step-{launcher.launched:06d}").mkdir(parents=True)
        if launcher.launched < 8:
            release(folder)
        else:
            with Store(folder) as store:
                assert store.finish("00", store.rows()["00"].holder.token, {})

    launcher = Exits(worker.STOPPED, save_a_step_or_finish)
    row, lines = work_through(folder, launcher)
    assert launcher.launched == 8 and row.state == "finished"
    assert lines == ["[1/1] trial 00 finished"]


@pytest.mark.parametrize("error", [SystemExit(0), SystemExit("done"), GeneratorExit()])
def test_a_run_that_exits_by_itself_has_failed(folder, monkeypatch, error, capsys):
    def exits(*arguments):
        raise error

    monkeypatch.setattr(worker, "_run", exits)
    monkeypatch.setattr(worker.LeaseRenewer, "start", lambda self: None)
    holder = LeaseHolder.this_process()
    assert worker.main([str(folder), "00", holder.token, "60"]) == worker.FAILED
    with Store(folder) as store:
        row = store.rows()["00"]
    assert row.state == "failed" and row.error == f"{type(error).__name__}: {error}"
    assert "Traceback" in capsys.readouterr().err
