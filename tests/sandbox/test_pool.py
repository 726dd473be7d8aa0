"""A function that loops, crashes, prints or allocates too much fails its own call only."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from rosd_kit.sandbox import Outcome, WorkerPool

ROOT = Path(__file__).parents[2]
TARGET = "tests.sandbox.functions:behave"


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    pool = WorkerPool(TARGET, workers=2, deadline=2.0, memory_mib=2000)
    yield pool
    pool.close()


def call(pool, do, value=None) -> Outcome:
    return pool.map([{"do": do, "value": value}])[0]


@pytest.mark.parametrize("value", [None, True, 1.5, "ü \x00 \n \ud7ff", [1, [2]], {"a": {"b": "x" * 1_000_000}}])
def test_a_json_value_survives_the_round_trip(pool, value):
    assert call(pool, "return", value) == Outcome("ok", value)


def test_outcomes_are_in_order_and_both_workers_run(pool):
    values = [{"do": "sleep", "value": 0.05} if i % 2 else {"do": "return", "value": i} for i in range(20)]
    assert [o.value for o in pool.map(values)] == ["slept" if i % 2 else i for i in range(20)]
    assert pool.alive == 2


@pytest.mark.parametrize(
    ("do", "value", "status"),
    [("loop", None, "timeout"), ("sleep", 60, "timeout"), ("raise", "no", "error"), ("exit", None, "crash"),
     ("sys.exit", None, "crash"), ("crash", None, "crash"), ("allocate", 4000, "error")],
)  # fmt: skip
def test_a_failing_call_gets_its_status_and_later_calls_are_answered(pool, do, value, status):
    orders = [{"do": "return", "value": 1}, {"do": do, "value": value}, *[{"do": "return", "value": i} for i in range(2, 6)]]
    start = time.monotonic()
    outcomes = pool.map(orders)
    assert [o.status for o in outcomes] == ["ok", status, "ok", "ok", "ok", "ok"]
    assert [o.value for o in outcomes if o.status == "ok"] == [1, 2, 3, 4, 5]
    assert time.monotonic() - start < 60
    assert call(pool, "return", "again") == Outcome("ok", "again")


def test_the_detail_of_an_error_has_its_type_and_message(pool):
    assert call(pool, "raise", "no such thing").detail == "ValueError: no such thing"
    assert "2000 MiB" in call(pool, "allocate", 4000).detail


def test_printed_text_is_not_read_as_an_answer(pool):
    assert [call(pool, "print").value, call(pool, "return", 7).value] == ["quiet", 7]


def test_processes_that_a_call_started_are_killed_with_it(pool):
    marker = 1234.5678
    assert call(pool, "fork", marker).status == "timeout"
    time.sleep(0.2)
    remaining = [p for p in psutil.process_iter(["cmdline"]) if str(marker) in (p.info["cmdline"] or ())]
    assert not remaining


def test_a_missing_function_is_a_crash_that_says_so():
    pool = WorkerPool("tests.sandbox.functions:nothing", workers=1, deadline=2.0)
    assert pool.map([1])[0] == Outcome("crash", detail="the worker could not import its function")


@pytest.mark.parametrize(("do", "deadline", "timeout"), [("sleep", 600, 10), ("hold", 1, 60)])
def test_workers_end_with_the_pool_and_with_the_process(pool, do, deadline, timeout):
    """Even during a call that blocks the thread that watches the parent."""
    call(pool, "return", 1)
    pool.close()
    assert pool.alive == 0
    script = (
        f"from rosd_kit.sandbox import WorkerPool\npool = WorkerPool({TARGET!r}, workers=1, deadline={deadline})\n"
        f"print(pool.map([{{'do': 'pid'}}])[0].value, flush=True)\npool.map([{{'do': {do!r}, 'value': 500}}])"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert process.stdout is not None
    worker = psutil.Process(int(process.stdout.readline()))
    time.sleep(0.5)  # let the call begin
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs([worker], timeout=timeout)
    assert not alive
