"""Started by `python -m sglang.launch_server` in these tests: a fake server with constant responses, and a child process.

Each start appends a line to the file FAKE_STARTS: both process ids, CUDA_VISIBLE_DEVICES and the arguments. FAKE_FAULTS names
faults: `exits_0` (exits at the first start; `exits_1` at the second), `dies_on_request`, `ignores_sigterm`.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.sglang_fake.fake_server import FakeServer

FAULTS = os.environ.get("FAKE_FAULTS", "").split()


class ConstantBackend:
    """Returns the same tokens for every prompt, and keeps no weights."""

    vocabulary = 1 << 30

    def score(self, ids: list[int]) -> list[float]:
        return [-0.5] * (len(ids) - 1)

    def sample(self, ids: list[int], params: Mapping[str, Any]) -> tuple[list[int], list[float]]:
        if "dies_on_request" in FAULTS:
            os._exit(1)
        time.sleep(0.02)
        return [7, 8, 9], [-0.5, -0.25, -0.125]

    def load_files(self, folder: str) -> None:
        assert list(Path(folder).glob("*.safetensors"))


def main(arguments: list[str]) -> None:
    log = Path(os.environ["FAKE_STARTS"])
    start = len(log.read_text().splitlines()) if log.exists() else 0
    child = subprocess.Popen(["sleep", "300"])
    if "ignores_sigterm" in FAULTS:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with log.open("a") as file:
        print(os.getpid(), child.pid, os.environ.get("CUDA_VISIBLE_DEVICES", "-"), *arguments, file=file, flush=True)
    if f"exits_{start}" in FAULTS:
        sys.exit("RuntimeError: CUDA out of memory (not really)")
    options = dict(itertools.pairwise(arguments))
    key = options.get("--api-key")
    FakeServer(ConstantBackend(), host=options["--host"], port=int(options["--port"]), api_key=key)  # type: ignore[arg-type]
    signal.pause()


if __name__ == "__main__":
    main(sys.argv[1:])
