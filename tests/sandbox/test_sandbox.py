"""The sandbox runs harmless programs, and stops attacks without a trace."""

from __future__ import annotations

import os
import platform
import socket
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

from rosd_kit.errors import RunError
from rosd_kit.sandbox import seccomp
from rosd_kit.sandbox.sandbox import ProgramResult, Sandbox
from tests.processes import processes_below

SANDBOX = Sandbox(deadline=20.0, memory_mib=512, output_kib=256)


@pytest.fixture(scope="module", autouse=True)
def sandbox_available():
    try:
        SANDBOX.check()
    except RunError as error:
        pytest.skip(f"this machine has no sandbox: {error}")


def run(program: str, stdin: str = "", sandbox: Sandbox = SANDBOX) -> ProgramResult:
    return sandbox.run({"kind": "input", "program": program}, stdin)


def cause(program: str) -> str:
    """Return the last line of the errors of a program that must fail."""
    result = run(program)
    assert result.status == "failed" and not result.output
    return result.errors.strip().splitlines()[-1] if result.errors.strip() else ""


def test_a_harmless_program_runs_and_reads_its_input_to_the_end():
    program = "import sys, json, decimal, heapq, asyncio, threading\nprint(sum(map(int, sys.stdin)))"
    assert run(program, "\n".join(map(str, range(100_000)))) == ProgramResult(status="ok", output="4999950000\n")
    assert run("print('ü')").output == "ü\n" and run("").status == "ok"
    threads = "from threading import Thread\nfor i in range(4):\n  t = Thread(target=print, args=(i,))\n  t.start(); t.join()"
    assert run(threads).output == "0\n1\n2\n3\n"


@pytest.mark.parametrize(
    "program",
    [
        "open('/etc/passwd').read()",
        "open('/etc/hostname').read()",
        "open('/proc/self/environ').read()",
        "import os; open(f'/proc/{os.getppid()}/environ').read()",
        "import os; os.listdir('/')",
        "open('TMP/left', 'w')",
        "open('left', 'w')",
        "open('/dev/shm/left', 'w')",
        "import os; os.mkdir('TMP/left')",
        "import os; os.symlink('/etc/passwd', 'TMP/left')",
        "import os; os.chmod('TMP', 0)",
        "import os; os.truncate('/etc/hostname', 0)",
        "import os; os.utime('TMP')",
        "import os; os.memfd_create('left')",
        "import tempfile; tempfile.TemporaryFile()",
        "import socket; socket.create_connection(('127.0.0.1', PORT))",
        "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
        "import socket; socket.socketpair()",
        "import urllib.request; urllib.request.urlopen('http://127.0.0.1:PORT')",
        "import os; os.fork()",
        "import os; os.posix_spawn('/bin/sh', ['sh'], {})",
        "import os; os.execv('/bin/sh', ['sh', '-c', 'echo out'])",
        "import subprocess; subprocess.run(['sleep', '1'])",
        "import multiprocessing as m; m.get_context('fork').Process(target=print).start()",
        "import os; os.setsid()",
        "import os; os.kill(os.getppid(), 9)",
        "import os; os.kill(-1, 9)",
        "import os; os.killpg(0, 9)",
        "import signal, os; signal.pidfd_send_signal(os.pidfd_open(os.getppid()), 9)",
        "import fcntl, os; fcntl.fcntl(0, fcntl.F_SETOWN, os.getppid())",
        "import fcntl, struct, os; fcntl.ioctl(0, 0x8901, struct.pack('i', os.getppid()))",
        "import resource as r; r.setrlimit(r.RLIMIT_AS, (-1, -1))",
        "import resource as r, os; r.prlimit(os.getppid(), r.RLIMIT_CPU, (1, 1))",
        "import os; os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
        "import os; os.setuid(0)",
        "bytearray(1 << 30)",
        "x = [0]\nwhile True: x += x",
        "import mmap; mmap.mmap(-1, 1 << 30)",
        "import threading, time\nwhile True: threading.Thread(target=time.sleep, args=(99,), daemon=True).start()",
        "raise SystemExit(3)",
    ],
)
def test_an_attack_fails(program):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(0.0)
        message = cause(program.replace("PORT", str(server.getsockname()[1])).replace("TMP", tempfile.gettempdir()))
        with pytest.raises(BlockingIOError):
            server.accept()
    assert "Traceback" not in message and not Path(tempfile.gettempdir(), "left").exists()
    assert not processes_below(naming="jail.py")


@pytest.mark.parametrize("number", [57, 58, 59, 101, 165, 272, 298, 310, 311, 321, 322, 323, 425, 41, 42])
def test_a_system_call_by_number_is_refused(number):
    """fork, vfork, execve, ptrace, mount, unshare, perf, process_vm_*, bpf, execveat, userfaultfd, io_uring, socket."""
    if platform.machine() != "x86_64":
        pytest.skip("the numbers are for x86_64")
    program = (
        f"import ctypes as c\nlibc = c.CDLL(None, use_errno=True)\nprint(libc.syscall({number}, 0, 0, 0, 0), c.get_errno())"
    )
    assert run(program).output == "-1 1\n"
    assert run(program.replace(str(number), str(number | 0x40000000))).output == "-1 1\n", "the same call through the x32 ABI"


def test_a_program_that_crashes_or_kills_itself_has_failed():
    assert run("import ctypes; ctypes.string_at(0)").status == "failed"
    assert run("import signal; signal.raise_signal(9)").status == "failed"
    assert run("import os; os._exit(1)").status == "failed"


def test_a_program_that_never_ends_is_stopped():
    short = Sandbox(deadline=1.0, memory_mib=512)
    for program in ("while True: pass", "import time; time.sleep(9999)", "import signal; signal.pause()\nwhile True: pass"):
        assert run(program, sandbox=short).status in ("timeout", "failed")
    ignores_signals = "import signal as s\nfor n in {*s.valid_signals()} - {9, 19}: s.signal(n, s.SIG_IGN)\nwhile True: pass"
    assert run(ignores_signals, sandbox=short).status == "timeout"


def test_a_program_that_prints_too_much_is_stopped():
    for stream in ("stdout", "stderr"):
        assert run(f"import sys\nwhile True: print('x' * 10_000, file=sys.{stream})").status == "flood"
    assert run(
        "import os\nwhile True: os.write(int(__import__('sys').argv[1]) if len(__import__('sys').argv) > 1 else 3, b'R' * 9999)"
    )


def test_a_call_returns_its_value_apart_from_printed_text():
    call = {
        "kind": "call",
        "program": "def f(a, b):\n  print('noise')\n  return [a, {'b': b}]",
        "name": "f",
        "arguments": [1, "x"],
    }
    assert SANDBOX.run(call) == ProgramResult(status="ok", output="noise\n", value=[1, {"b": "x"}])
    method = {**call, "program": "class Solution:\n  def f(self, a, b): return a", "arguments": [2, 0]}
    assert SANDBOX.run(method).value == 2
    assert SANDBOX.run({**call, "name": "g"}).status == "failed"
    assert SANDBOX.run({**call, "program": "def f(a, b): return object()"}).status == "failed"


def test_tests_pass_only_if_they_run_to_their_end():
    tests = {"kind": "tests", "tests": "assert f(2) == 4"}
    assert SANDBOX.run({**tests, "program": "def f(x): return x * x"}).status == "ok"
    for program in ("def f(x): return 5", "raise SystemExit(0)", "import os; os._exit(0)", "def f(x): raise SystemExit"):
        assert SANDBOX.run({**tests, "program": program}).status == "failed"


def test_a_program_ends_when_its_parent_is_killed():
    job = {"kind": "input", "program": "import time; time.sleep(400)"}
    script = f"from rosd_kit.sandbox.sandbox import Sandbox\nSandbox(deadline=500, memory_mib=512).run({job})"
    process = subprocess.Popen([sys.executable, "-c", script], cwd=Path(__file__).parents[2])
    parent = psutil.Process(process.pid)
    deadline = time.monotonic() + 60
    while not (children := parent.children(recursive=True)) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1.0)
    process.kill()
    process.wait()
    assert children and not psutil.wait_procs(children, timeout=60)[1]


def test_nothing_is_run_if_the_process_cannot_be_confined(monkeypatch, tmp_path):
    monkeypatch.setattr("rosd_kit.sandbox.sandbox._JAIL", tmp_path / "jail.py")
    jail = "import os, sys\nos.write(int(sys.argv[1]), b'XOSError: Landlock: Function not implemented')\n"
    (tmp_path / "jail.py").write_text(jail)
    with pytest.raises(
        RunError, match=r"no program is run: OSError: Landlock: Function not implemented. The sandbox needs Linux 5.13"
    ):
        run("print(1)")


@pytest.mark.parametrize("machine", sorted(seccomp.ALLOWED))
def test_the_filter_jumps_only_within_itself_and_ends_with_a_refusal(machine):
    steps = seccomp.filter_for(machine, os.getpid())
    assert len(steps) < 4096 and steps[-1] == (0x06, 0, 0, 0x00050001)
    for index, (_, true, false, constant) in enumerate(steps):
        assert index + 1 + max(true, false) < len(steps) or index == len(steps) - 1
        struct.pack("=HBBI", 0, true, false, constant)
    answers = {number: simulated(steps, number) for number in range(500)}
    clone = {"x86_64": 56, "aarch64": 220}[machine]  # all its flags are set here, CLONE_THREAD among them
    assert {n for n, answer in answers.items() if answer == 0x7FFF0000} == {*seccomp.ALLOWED[machine], clone}


def simulated(steps, number: int) -> int:
    """Interpret a filter for a call with all arguments -1 and return its answer."""
    data = struct.pack("=iI", number, steps[1][3]) + b"\xff" * 56
    index, loaded = 0, 0
    while True:
        code, true, false, constant = steps[index]
        if code == 0x06:
            return constant
        if code == 0x20:
            loaded = struct.unpack_from("=I", data, constant)[0]
        else:
            index += true if (loaded == constant if code == 0x15 else loaded & constant) else false
        index += 1
