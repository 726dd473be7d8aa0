"""Threads sleep while they wait where other processes use the processors."""

from __future__ import annotations

import os

import pytest

from rosd_kit.cli.busy_machine import share_processors


@pytest.mark.parametrize(
    ("load", "before", "after"),
    [
        (3.0, {}, "1000"),
        (0.5, {}, None),
        (3.0, {"GOMP_SPINCOUNT": "7"}, "7"),
        (3.0, {"OMP_WAIT_POLICY": "active"}, None),
    ],
)
def test_only_a_busy_machine_changes_how_threads_wait_and_never_the_users_choice(load, before, after, monkeypatch):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, 0.0, 0.0))
    share_processors()
    assert os.environ.get("GOMP_SPINCOUNT") == after
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)


def test_a_system_that_does_not_tell_its_load_changes_nothing(monkeypatch):
    def unknown():
        raise OSError

    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.setattr(os, "getloadavg", unknown)
    share_processors()
    assert "GOMP_SPINCOUNT" not in os.environ
