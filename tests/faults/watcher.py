"""A plugin that looks every few steps at the process that trains; see soak.py."""

import json
import time

import psutil

import rosd_kit as rk

EVERY = 10
began = time.perf_counter()


@rk.hookimpl
def rosd_kit_step_end(run, step):
    global began
    if step % EVERY:
        return
    process, folder = psutil.Process(), run.path
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, step + 1)), "metrics.jsonl is not whole"
    now = time.perf_counter()
    seen = {
        "step": step,
        "bytes": process.memory_full_info().uss,
        "files": process.num_fds(),
        "threads": process.num_threads(),
        "seconds": (now - began) / EVERY,
    }
    began = now
    with (folder / "watched.jsonl").open("a") as stream:
        stream.write(json.dumps(seen) + "\n")
