"""A function that loops, crashes, prints or allocates too much fails its own call only."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from rosd_kit.errors import RunError
from rosd_kit.sandbox import Outcome, WorkerPool
from rosd_kit.sandbox.sandbox import Sandbox

ROOT = Path(__file__).parents[2]
TARGET = "tests.sandbox.functions:behave"


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    pool = WorkerPool(TARGET, workers=2, deadline=60.0, memory_mib=2000)
    yield pool
    pool.close()


@pytest.fixture
def hurried() -> Iterator[WorkerPool]:
    """For calls that never end; those beside them take milliseconds."""
    pool = WorkerPool(TARGET, workers=2, deadline=3.0, memory_mib=2000)
    yield pool
    pool.close()


def call(pool, do, value=None) -> Outcome:
    return pool.map([{"do": do, "value": value}])[0]


@pytest.mark.parametrize("value", [None, True, 1.5, "ü \x00 \n \ud7ff", [1, [2]], {"a": {"b": "x" * 500_000}}])
def test_a_json_value_survives_the_round_trip(pool, value):
    assert call(pool, "return", value) == Outcome("ok", value)


def test_outcomes_are_in_order_and_both_workers_run(pool):
    values = [{"do": "sleep", "value": 0.05} if i % 2 else {"do": "return", "value": i} for i in range(20)]
    assert [o.value for o in pool.map(values)] == ["slept" if i % 2 else i for i in range(20)]
    assert pool.alive == 2


@pytest.mark.parametrize(
    ("do", "value", "status"),
    [("loop", None, "timeout"), ("sleep", 9999, "timeout"), ("raise", "no", "error"), ("exit", None, "crash"),
     ("sys.exit", None, "crash"), ("crash", None, "crash"), ("allocate", 4000, "error")],
)  # fmt: skip
def test_a_failing_call_gets_its_status_and_later_calls_are_answered(request, do, value, status):
    pool = request.getfixturevalue("hurried" if status == "timeout" else "pool")
    orders = [{"do": "return", "value": 1}, {"do": do, "value": value}, *[{"do": "return", "value": i} for i in range(2, 6)]]
    outcomes = pool.map(orders)
    assert [o.status for o in outcomes] == ["ok", status, "ok", "ok", "ok", "ok"]
    assert [o.value for o in outcomes if o.status == "ok"] == [1, 2, 3, 4, 5]
    assert call(pool, "return", "again") == Outcome("ok", "again")


def test_the_detail_of_an_error_has_its_type_and_message(pool):
    assert call(pool, "raise", "no such thing").detail == "ValueError: no such thing"
    assert "2000 MiB" in call(pool, "allocate", 4000).detail


def test_printed_text_is_not_read_as_an_answer(pool):
    assert [call(pool, "print").value, call(pool, "return", 7).value] == ["quiet", 7]


def test_processes_that_a_call_started_are_killed_with_it():
    marker = 1234.5678
    pool = WorkerPool(TARGET, workers=1, deadline=2.0, confinement="none")
    assert call(pool, "fork", marker).status == "timeout"
    pool.close()
    started = [p for p in psutil.process_iter(["cmdline"]) if str(marker) in (p.info["cmdline"] or ())]
    assert not psutil.wait_procs(started, timeout=60)[1]


def test_a_missing_function_is_a_crash_that_says_so():
    pool = WorkerPool("tests.sandbox.functions:nothing", workers=1, deadline=60.0)
    outcome = pool.map([1])[0]
    assert outcome.status == "crash"
    assert outcome.detail.startswith("the worker could not import its function: AttributeError: module")


@pytest.fixture
def confined() -> Iterator[WorkerPool]:
    pool = WorkerPool(TARGET, workers=1, deadline=60.0, memory_mib=2000, confinement="required")
    try:
        pool.map([{"do": "return", "value": 1}])
    except RunError as error:
        pytest.skip(f"this machine has no sandbox: {error}")
    yield pool
    pool.close()


def test_a_confined_call_can_neither_write_nor_read_nor_connect_nor_start_a_process(confined, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("s")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        orders = [("write", str(tmp_path / "left")), ("read", str(secret)), ("connect", server.getsockname()[1]), ("fork", 1)]
        outcomes = [call(confined, *order) for order in orders]
    assert [o.status for o in outcomes] == ["error"] * 4 and all("PermissionError" in o.detail for o in outcomes)
    assert not (tmp_path / "left").exists()


def test_a_worker_sees_no_secret_of_the_environment(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    pool = WorkerPool(TARGET, workers=1, deadline=60.0)
    assert "HF_TOKEN" not in call(pool, "environment").value
    pool.close()


def test_a_call_that_runs_code_leaves_nothing_behind_and_others_stay_warm(confined):
    assert [call(confined, "remember").value for _ in range(3)] == [1, 2, 3]
    assert call(confined, "evaluate").value == 4
    assert [call(confined, do).value for do in ("evaluate", "evaluate", "remember")] == [1, 1, 1]


@pytest.mark.parametrize("depth", [200, 900, 60_000])
def test_a_deeply_nested_answer_is_an_error_of_its_own_call(pool, depth):
    outcomes = pool.map([{"do": "return", "value": 1}, {"do": "brackets", "value": depth}, {"do": "return", "value": 2}])
    assert [o.status for o in outcomes] == ["ok", "error", "ok"] and [o.value for o in outcomes] == [1, None, 2]


def framed(content: str) -> str:
    return struct.pack(">Q", len(content)).decode("latin-1") + content


@pytest.mark.parametrize(
    "written",
    [
        "",
        "garbage",
        framed("V" + "[" * 60_000 + "]" * 60_000),
        framed('V{"a": 1'),
        framed("V" + "9" * 5000),
        framed("V\xff\xfe"),
        framed("T"),
        framed(""),
        "\xff" * 8 + "x",
        framed("V1") + framed("V2") + framed("V3"),
    ],
)
def test_whatever_a_call_writes_costs_only_itself(pool, written):
    outcomes = pool.map([{"do": "return", "value": 1}, {"do": "forge", "value": written}, {"do": "return", "value": 2}])
    assert outcomes[0] == Outcome("ok", 1) and outcomes[2] == Outcome("ok", 2)
    assert outcomes[1].status != "ok" or outcomes[1].value == 1
    assert call(pool, "return", "again") == Outcome("ok", "again")


def test_a_value_that_cannot_be_sent_is_an_error_of_its_own_call(pool):
    outcomes = pool.map([{"do": "return", "value": 1}, {"do": lambda: 0}, {"do": "return", "value": 2}])
    assert [o.value for o in outcomes] == [1, None, 2] and outcomes[1].detail.startswith("cannot be pickled")


def test_an_answer_that_is_too_long_is_refused(pool):
    assert call(pool, "return", "x" * 2_000_000).detail == "its answer is longer than 1048576 bytes"


@pytest.mark.parametrize("deadline", [float("inf"), float("nan"), 0.0, -1.0, 1e30])
def test_a_deadline_that_cannot_be_waited_for_is_refused(deadline):
    with pytest.raises(ValueError, match="a deadline of"):
        WorkerPool(TARGET, workers=1, deadline=deadline)
    with pytest.raises(ValueError, match="a deadline of"):
        Sandbox(deadline=deadline, memory_mib=100)


@pytest.mark.parametrize("confinement", ["required", "if_possible"])
def test_a_deadline_that_nothing_meets_does_not_look_like_a_machine_that_cannot_confine(confinement):
    pool = WorkerPool(TARGET, workers=1, deadline=1e-9, memory_mib=2000, confinement=confinement)
    try:
        assert call(pool, "return", 1).status == "timeout"
    finally:
        pool.close()


@pytest.mark.parametrize(("do", "deadline"), [("sleep", 600), ("hold", 3)])
def test_workers_end_with_the_pool_and_with_the_process(pool, do, deadline):
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
    _, alive = psutil.wait_procs([worker], timeout=120)
    assert not alive
