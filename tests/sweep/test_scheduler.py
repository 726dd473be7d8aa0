"""The scheduler's interrupts, with a launcher whose trials never run."""

from __future__ import annotations

import os
import signal

import pytest

from rosd_kit.sweep import scheduler as module
from rosd_kit.sweep.launchers import Handle, Launcher
from rosd_kit.sweep.scheduler import Scheduler
from rosd_kit.sweep.store import Store
from rosd_kit.sweep.worker import STOPPED


class Pretend(Launcher, Handle):
    """A launcher, and the handle of its one command, which interrupts the scheduler when it is polled."""

    def __init__(self, folder, *, ends_on_stop_request):
        self.folder, self.ends_on_stop_request, self.polls = folder, ends_on_stop_request, 0

    def launch(self, command, slot):
        return self

    def poll(self):
        with Store(self.folder) as store:
            stop = store.rows(["00"])["00"].stop
        if stop and self.ends_on_stop_request:
            return STOPPED
        self.polls += 1
        os.kill(os.getpid(), signal.SIGINT)
        return None


@pytest.mark.parametrize(("ends_on_stop_request", "polls"), [(True, 1), (False, 2)])
def test_the_first_interrupt_waits_for_trials_to_save_and_the_second_does_not(
    tmp_path, monkeypatch, ends_on_stop_request, polls
):
    monkeypatch.setattr(module, "_POLL_SECONDS", 0.01)
    with Store(tmp_path, create=True) as store:
        store.add([("00", "recipe", 0)], [])
    launcher, lines = Pretend(tmp_path, ends_on_stop_request=ends_on_stop_request), []
    handler = signal.getsignal(signal.SIGINT)
    assert not Scheduler(folder=tmp_path, ids=["00"], launcher=launcher, jobs=1, threads=1, notify=lines.append).run()
    assert launcher.polls == polls and signal.getsignal(signal.SIGINT) == handler
    assert [line.partition(":")[0] for line in lines] == ["stopping"]
    with Store(tmp_path) as store:
        assert store.rows()["00"].state == ("waiting" if ends_on_stop_request else "running")
