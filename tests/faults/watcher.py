"""A plugin that records memory, files and threads of the training process every few steps; see soak.py."""

import gc
import json
import time
import tracemalloc

import psutil
import torch

import rosd_kit as rk

EVERY = 10
TENSORS = {torch.Tensor, torch.nn.Parameter}
last = time.perf_counter()


def live() -> dict[str, int]:
    """Return the bytes of living Python objects and tensors, which no allocator blurs; nothing unless tracemalloc runs."""
    if not tracemalloc.is_tracing():
        return {}
    gc.collect()
    tensors = [value for value in gc.get_objects() if type(value) in TENSORS]
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage().nbytes() for tensor in tensors}
    return {"python": tracemalloc.get_traced_memory()[0], "tensors": sum(storages.values())}


@rk.hookimpl
def rosd_kit_step_end(run, step):
    global last
    if step % EVERY:
        return
    process, folder = psutil.Process(), run.path
    now = time.perf_counter()
    record = {
        "step": step,
        "bytes": process.memory_full_info().uss,
        **live(),
        "files": process.num_fds(),
        "threads": process.num_threads(),
        "seconds": (now - last) / EVERY,
    }
    last = now
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, step + 1)), "metrics.jsonl is incomplete"
    with (folder / "watched.jsonl").open("a") as stream:
        stream.write(json.dumps(record) + "\n")
