"""The store: who may work on what, and that nothing is lost or done twice however processes end."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from rosd_kit.errors import RunError
from rosd_kit.sweep.lease import Owner
from rosd_kit.sweep.store import FILE, Store

IDS = [f"{place:02}" for place in range(20)]


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path, create=True) as opened:
        opened.add([(id, "recipe", 0) for id in IDS[:3]], ["/plugins/a.py"])
        yield opened


def elsewhere(token="other"):
    """Return a process of another machine, of which nothing can be known but its lease."""
    return replace(Owner.me(token), place="another machine")


def dead():
    """Return a process of this machine that is no more."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    owner = replace(Owner.me(), pid=process.pid)
    process.wait()
    return owner


def test_a_trial_is_claimed_by_one_in_the_order_asked_for(store):
    first, second = store.claim(IDS, Owner.me(), 60), store.claim(["01", "00"], Owner.me(), 60)
    assert (first.id, second.id) == ("00", "01")
    assert (first.state, first.starts, first.plugins) == ("running", 1, ("/plugins/a.py",))
    assert store.claim(["00", "01"], Owner.me(), 60) is None


def test_what_is_there_stays_when_it_is_asked_for_again(store):
    me = Owner.me()
    store.claim(["00"], me, 60)
    assert store.finish("00", me.token, {"x": 1})
    store.add([("00", "other recipe", 0), ("99", "recipe", 0)], [])
    assert store.rows(["00"])["00"].result == {"x": 1} and store.rows(["00"])["00"].recipe == "recipe"
    assert store.claim(["00"], Owner.me(), 60) is None


def test_a_dead_process_of_this_machine_loses_its_trial_at_once(store):
    store.claim(["00"], dead(), lease=3600)
    taken = store.claim(["00"], Owner.me(), 60)
    assert taken.id == "00" and taken.starts == 2


def test_a_living_process_of_this_machine_keeps_its_trial_beyond_its_lease(store):
    store.claim(["00"], Owner.me(), lease=-1)
    assert store.claim(["00"], Owner.me(), 60) is None


def test_a_process_elsewhere_keeps_its_trial_as_long_as_its_lease(store):
    store.claim(["00"], elsewhere(), lease=3600)
    assert store.claim(["00"], Owner.me(), 60) is None
    assert store.renew("00", "other", lease=-1) is False
    assert store.claim(["00"], Owner.me(), 60).id == "00"


def test_who_lost_a_trial_can_do_nothing_to_it(store):
    me = Owner.me()
    store.claim(["00"], elsewhere(), lease=-1)
    store.claim(["00"], me, 60)
    assert store.renew("00", "other", 60) is None
    assert not store.finish("00", "other", {}) and not store.fail("00", "other", "x") and not store.release("00", "other")
    assert store.rows(["00"])["00"].owner == me
    assert store.finish("00", me.token, {}) and store.finishes() == {"00": 1}
    assert not store.finish("00", me.token, {}) and store.finishes() == {"00": 1}


def test_a_process_takes_over_what_was_claimed_for_it_and_nothing_else(store):
    store.claim(["00"], elsewhere("mine"), 60)
    assert store.take_over("00", Owner.me("not mine"), 60) is None
    taken = store.take_over("00", Owner.me("mine"), 60)
    assert taken.owner == Owner.me("mine") and taken.starts == 1
    assert store.take_over("77", Owner.me(), 60) is None


def test_a_trial_can_be_asked_to_stop_and_is_then_free(store):
    me = Owner.me()
    store.claim(["00"], me, 60)
    store.stop("00", me.token)
    assert store.renew("00", me.token, 60) is True
    assert store.take_over("00", me, 60) is None
    assert store.release("00", me.token)
    again = store.claim(["00"], Owner.me(), 60)
    assert again.starts == 2 and again.stop is False


def test_a_failed_trial_keeps_its_error_until_it_is_tried_again(store):
    me = Owner.me()
    store.claim(["00"], me, 60)
    assert store.fail("00", me.token, "no luck")
    assert store.rows(["00"])["00"].error == "no luck"
    assert store.claim(["00"], Owner.me(), 60) is None
    assert store.retry(["00", "01"]) == 1
    assert store.claim(["00"], Owner.me(), 60).error is None


def test_the_first_fact_stays_and_the_last_plan_counts(store):
    assert [store.fact("threads", "2"), store.fact("threads", "8")] == ["2", "2"]
    for digest, name in (("a", "one"), ("b", "two"), ("a", "one")):
        store.add_plan(digest, name, {"name": name})
    assert (store.plan()["name"], store.plan("two")["name"]) == ("one", "two")
    with pytest.raises(RunError, match="Plans: one, two"):
        store.plan("three")


def test_files_that_cannot_be_used_are_told(tmp_path):
    with pytest.raises(RunError, match="holds no sweep"):
        Store(tmp_path)
    (tmp_path / FILE).write_text("this is no database, but long enough to look like a file of something" * 20)
    with pytest.raises(RunError, match="cannot be used"):
        Store(tmp_path)
    (tmp_path / FILE).unlink()
    Store(tmp_path, create=True).close()
    database = sqlite3.connect(tmp_path / FILE)
    database.execute("PRAGMA user_version = 9")
    database.close()
    with pytest.raises(RunError, match="newer rosd-kit"):
        Store(tmp_path)


def test_processes_killed_at_any_moment_lose_nothing_and_finish_everything_once(tmp_path):
    with Store(tmp_path, create=True) as store:
        store.add([(id, "recipe", 0) for id in IDS], [])
    command = [sys.executable, "-m", "tests.sweep.holder", str(tmp_path), "0.3", *IDS]
    generator, kills = random.Random(0), 0
    workers = [subprocess.Popen(command) for _ in range(2)]
    with Store(tmp_path) as store:
        deadline = time.monotonic() + 200
        while any(row.state != "finished" for row in store.rows().values()) and time.monotonic() < deadline:
            busy = [row for row in store.rows().values() if row.state == "running"]
            if busy and kills < 15:
                time.sleep(generator.random() * 0.03)
                victim = generator.choice(workers)
                if victim.poll() is None:
                    os.kill(victim.pid, signal.SIGKILL)
                    victim.wait()
                    kills += 1
                workers[workers.index(victim)] = subprocess.Popen(command)
            else:
                time.sleep(0.005)
        assert store.finishes() == dict.fromkeys(IDS, 1)
        assert sum(row.starts for row in store.rows().values()) >= len(IDS)
        assert store._db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert kills == 15
    assert [worker.wait(timeout=60) for worker in workers] == [0, 0]
