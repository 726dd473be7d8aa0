"""A plugin that records memory, files and threads of the training process every few steps; see soak.py."""

import json
import time

import psutil

import rosd_kit as rk

EVERY = 10
last = time.perf_counter()


@rk.hookimpl
def rosd_kit_step_end(run, step):
    global last
    if step % EVERY:
        return
    process, folder = psutil.Process(), run.path
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, step + 1)), "metrics.jsonl is incomplete"
    now = time.perf_counter()
    record = {
        "step": step,
        "bytes": process.memory_full_info().uss,
        "files": process.num_fds(),
        "threads": process.num_threads(),
        "seconds": (now - last) / EVERY,
    }
    last = now
    with (folder / "watched.jsonl").open("a") as stream:
        stream.write(json.dumps(record) + "\n")
