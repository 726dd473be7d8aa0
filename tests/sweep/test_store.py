"""The store: which process may work on a trial, and that nothing is lost or done twice when processes die."""

from __future__ import annotations

import json
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
from rosd_kit.sweep import store as store_module
from rosd_kit.sweep.lease import LeaseHolder
from rosd_kit.sweep.store import FILE, Store

KILLS = 15
IDS = [f"{index:02}" for index in range(20)]


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path, create=True) as opened:
        opened.add([(id, "recipe", 0) for id in IDS[:3]], ["/plugins/a.py"])
        yield opened


def remote_holder(token="other"):
    """Return a holder on another machine, about which only the lease is known."""
    return replace(LeaseHolder.this_process(token), host="another machine")


def dead_holder():
    """Return a holder on this machine whose process is dead."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    holder = replace(LeaseHolder.this_process(), pid=process.pid)
    process.wait()
    return holder


def test_each_trial_is_claimed_once_in_the_given_order(store):
    first, second = store.claim(IDS, LeaseHolder.this_process(), 60), store.claim(["01", "00"], LeaseHolder.this_process(), 60)
    assert (first.id, second.id) == ("00", "01")
    assert (first.state, first.starts, first.plugins) == ("running", 1, ("/plugins/a.py",))
    assert store.claim(["00", "01"], LeaseHolder.this_process(), 60) is None


def test_adding_a_trial_again_changes_nothing(store):
    holder = LeaseHolder.this_process()
    store.claim(["00"], holder, 60)
    assert store.finish("00", holder.token, {"x": 1})
    store.add([("00", "other recipe", 0), ("99", "recipe", 0)], [])
    assert store.rows(["00"])["00"].result == {"x": 1} and store.rows(["00"])["00"].recipe == "recipe"
    assert store.claim(["00"], LeaseHolder.this_process(), 60) is None


def test_a_dead_process_on_this_machine_loses_its_trial_at_once(store):
    store.claim(["00"], dead_holder(), lease=3600)
    taken = store.claim(["00"], LeaseHolder.this_process(), 60)
    assert taken.id == "00" and taken.starts == 2


def test_a_living_process_on_this_machine_keeps_its_trial_after_its_lease_ends(store):
    store.claim(["00"], LeaseHolder.this_process(), lease=-1)
    assert store.claim(["00"], LeaseHolder.this_process(), 60) is None


def test_a_process_on_another_machine_loses_its_trial_when_its_lease_ends(store):
    store.claim(["00"], remote_holder(), lease=3600)
    assert store.claim(["00"], LeaseHolder.this_process(), 60) is None
    assert store.renew("00", "other", lease=-1) is False
    assert store.claim(["00"], LeaseHolder.this_process(), 60).id == "00"


def test_a_process_that_lost_a_trial_cannot_change_it(store):
    holder = LeaseHolder.this_process()
    store.claim(["00"], remote_holder(), lease=-1)
    store.claim(["00"], holder, 60)
    assert store.renew("00", "other", 60) is None
    assert not store.finish("00", "other", {}) and not store.fail("00", "other", "x") and not store.release("00", "other")
    assert store.rows(["00"])["00"].holder == holder
    assert store.finish("00", holder.token, {}) and store.finish_counts() == {"00": 1}
    assert not store.finish("00", holder.token, {}) and store.finish_counts() == {"00": 1}


def test_a_process_takes_over_only_the_trial_claimed_with_its_token(store):
    store.claim(["00"], remote_holder("mine"), 60)
    assert store.take_over("00", LeaseHolder.this_process("not mine"), 60) is None
    taken = store.take_over("00", LeaseHolder.this_process("mine"), 60)
    assert taken.holder == LeaseHolder.this_process("mine") and taken.starts == 1
    assert store.take_over("77", LeaseHolder.this_process(), 60) is None


def test_a_trial_stopped_on_request_is_free_again(store):
    holder = LeaseHolder.this_process()
    store.claim(["00"], holder, 60)
    store.request_stop("00", holder.token)
    assert store.renew("00", holder.token, 60) is True
    assert store.take_over("00", holder, 60) is None
    assert store.release("00", holder.token)
    again = store.claim(["00"], LeaseHolder.this_process(), 60)
    assert again.starts == 2 and again.stop is False


def test_a_failed_trial_keeps_its_error_until_it_is_retried(store):
    holder = LeaseHolder.this_process()
    store.claim(["00"], holder, 60)
    assert store.fail("00", holder.token, "no luck")
    assert store.rows(["00"])["00"].error == "no luck"
    assert store.claim(["00"], LeaseHolder.this_process(), 60) is None
    assert store.retry(["00", "01"]) == 1
    assert store.claim(["00"], LeaseHolder.this_process(), 60).error is None


def test_a_default_is_set_once_and_the_latest_plan_is_returned(store):
    assert [store.set_default("threads", "2"), store.set_default("threads", "8")] == ["2", "2"]
    for digest, name in (("a", "one"), ("b", "two"), ("a", "one")):
        store.add_plan(digest, name, {"name": name})
    assert (store.plan()["name"], store.plan("two")["name"]) == ("one", "two")
    with pytest.raises(RunError, match="Plans: one, two"):
        store.plan("three")


def test_the_holder_is_stored_under_the_keys_of_earlier_versions(store):
    holder = LeaseHolder.this_process("mine")
    store.claim(["00"], holder, 60)
    (stored,) = store._db.execute("SELECT owner FROM trials WHERE id = '00'").fetchone()
    assert json.loads(stored) == {"token": "mine", "place": holder.host, "pid": holder.pid, "born": holder.started}
    assert store.rows(["00"])["00"].holder == holder


def test_an_unusable_database_is_an_error(tmp_path):
    with pytest.raises(RunError, match="contains no sweep"):
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


@pytest.mark.parametrize("size", [100, 5_000, 9_000])
def test_a_truncated_database_is_an_error_and_stays_as_it_is(tmp_path, size):
    with Store(tmp_path, create=True) as store:
        store.add([(id, "recipe" * 100, 0) for id in IDS], [])
    whole = (tmp_path / FILE).read_bytes()
    assert len(whole) > size
    (tmp_path / FILE).write_bytes(whole[:size])
    with pytest.raises(RunError, match=rf"{FILE}: (cannot be used|.* is damaged): "), Store(tmp_path) as store:
        store.rows()
    assert (tmp_path / FILE).read_bytes() == whole[:size]


def test_after_flipped_bits_a_sweep_is_read_or_the_file_is_named(tmp_path):
    with Store(tmp_path, create=True) as store:
        store.add([(id, f"name: {id}", 0) for id in IDS], ["/plugins/a.py"])
        store.add_plan("digest", "sweep", {"name": "sweep", "trials": IDS})
    whole, rng, refused = (tmp_path / FILE).read_bytes(), random.Random(0), 0
    for _ in range(150):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        (tmp_path / FILE).write_bytes(damaged)
        try:
            with Store(tmp_path) as store:
                store.rows()
                store.plan()
        except RunError as error:
            refused += 1
            assert FILE in str(error)
    assert refused


def test_processes_killed_at_any_moment_lose_nothing_and_finish_everything_once(tmp_path):
    with Store(tmp_path, create=True) as store:
        store.add([(id, "recipe", 0) for id in IDS], [])
    command = [sys.executable, "-m", "tests.sweep.fake_worker", str(tmp_path), "0.3", *IDS]
    generator, kills = random.Random(0), 0
    workers = [subprocess.Popen(command) for _ in range(2)]
    with Store(tmp_path) as store:
        deadline = time.monotonic() + 600
        while any(row.state != "finished" for row in store.rows().values()) and time.monotonic() < deadline:
            busy = [row for row in store.rows().values() if row.state == "running"]
            if busy and kills < KILLS:
                time.sleep(generator.random() * 0.03)
                victim = generator.choice(workers)
                if victim.poll() is None:
                    os.kill(victim.pid, signal.SIGKILL)
                    victim.wait()
                    kills += 1
                    if kills == KILLS:
                        (tmp_path / "enough").touch()
                workers[workers.index(victim)] = subprocess.Popen(command)
            else:
                time.sleep(0.005)
        assert store.finish_counts() == dict.fromkeys(IDS, 1)
        assert sum(row.starts for row in store.rows().values()) >= len(IDS)
        assert store._db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert kills == KILLS
    assert [worker.wait(timeout=60) for worker in workers] == [0, 0]


@pytest.mark.parametrize("use", [lambda store: store.rows(IDS[:1]), lambda store: store.add([(IDS[4], "recipe", 0)], [])])
def test_a_lock_that_is_never_released_is_explained(use, tmp_path, monkeypatch):
    """As of a process that was suspended inside a transaction."""
    monkeypatch.setattr(store_module, "_BUSY_TIMEOUT", 0.05)
    with Store(tmp_path, create=True) as opened, sqlite3.connect(tmp_path / FILE, isolation_level=None) as other:
        opened.add([(IDS[0], "recipe", 0)], [])
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(RunError, match=r"sweep\.db: another process has locked it for 0\.05 s.*state T.*are kept"):
            use(opened)
        other.execute("ROLLBACK")
        use(opened)
        assert IDS[0] in opened.rows(IDS[:1])
    other.close()
