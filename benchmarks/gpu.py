"""Says in under eight minutes what one NVIDIA card does with rosd-kit: correctness, speed and memory, part by part.

    python benchmarks/gpu.py                       # appends to benchmarks/results/gpu-CARD.jsonl
    python benchmarks/gpu.py --only loss step      # some parts
    python benchmarks/gpu.py --model PATH          # also a whole run on a model that is on this machine
    python benchmarks/gpu.py --rehearse            # every part at toy sizes on the CPU, to prove the script itself

Needs torch >= 2.11 and no network; `benchmarks/gpu-wheels.txt` lists the packages that a machine with torch and transformers
may lack. Each part runs in a process of its own with a limit in seconds, and its rows are written as they are measured, so a
part that hangs or fails costs neither the others nor what it measured before. The last row of a part, `"part": "ended"`, says
how it ended. Where there is one, a row has the limit of the card beside the measured value. The parts with SGLang and with a
model of your own come after the eight minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).resolve()
RESULTS = SCRIPT.parent / "results"


@dataclass(frozen=True)
class Part:
    """A part: its function in `gpu_parts.py`, and how many seconds it may take; `extra` parts come after the eight minutes."""

    name: str
    seconds: int
    extra: bool = False


PARTS = (
    Part("versions", 40),
    Part("tests", 50),
    Part("loss", 70),
    Part("attention", 45),
    Part("train", 50),
    Part("step", 120),
    Part("gaps", 30),
    Part("laboratory", 75),
    Part("server", 300, extra=True),
    Part("model", 900, extra=True),
)


def main() -> int:
    arguments = _arguments()
    if arguments.part is not None:
        return _run_part(arguments)
    store = _store(arguments)
    parts = [part for part in PARTS if (part.name in arguments.only if arguments.only else _wanted(part, arguments))]
    failed = [part.name for part in parts if run_limited(part, arguments, store) != "done"]
    print(f"results: {store}" + (f"; not done: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def run_limited(part: Part, arguments: argparse.Namespace, store: Path) -> str:
    """Run a part in a process of its own, append how it ended, and return that: done, failed or limit."""
    command = [sys.executable, str(SCRIPT), "--part", part.name, "--store", str(store), "--model", arguments.model or ""]
    command += ["--rehearse"] if arguments.rehearse else []
    seconds = arguments.seconds or part.seconds * (20 if arguments.rehearse else 1)  # a rehearsal may share a slow machine
    print(f"== {part.name} (at most {seconds:g} s)", flush=True)
    began = time.monotonic()
    with tempfile.TemporaryFile() as errors:
        # Its own session, so that what the part started ends with it.
        child = subprocess.Popen(command, env=_environment(arguments), stderr=errors, start_new_session=True)
        try:
            ending = "done" if child.wait(timeout=seconds) == 0 else "failed"
        except subprocess.TimeoutExpired:
            ending = "limit"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        errors.seek(0)
        said = errors.read().decode(errors="replace").strip().splitlines()
    row = {"part": "ended", "of": part.name, "as": ending, "seconds": round(time.monotonic() - began, 1)}
    append(store, row if ending == "done" else {**row, "said": said[-12:]})
    return ending


def append(store: Path, row: dict[str, Any]) -> None:
    """Append one row at once and print it."""
    line = json.dumps(row)
    with store.open("a") as file:
        file.write(line + "\n")
    print(line, flush=True)


def _run_part(arguments: argparse.Namespace) -> int:
    import gpu_parts

    rows: Iterator[dict[str, Any]] = getattr(gpu_parts, arguments.part)(gpu_parts.Scale(arguments.rehearse), arguments.model)
    for row in rows:
        append(arguments.store, {"part": arguments.part, **row})
    return 0


def _wanted(part: Part, arguments: argparse.Namespace) -> bool:
    """Return whether a part is possible here without being asked for by name."""
    if part.name == "server":
        import gpu_parts

        return gpu_parts.server_python() is not None
    return not part.extra or bool(arguments.model)


def _store(arguments: argparse.Namespace) -> Path:
    """Return the file of results; a rehearsal's is temporary unless a folder is named."""
    folder = arguments.out or (Path(tempfile.mkdtemp(prefix="gpu-rehearsal-")) if arguments.rehearse else RESULTS)
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"gpu-{'rehearsal' if arguments.rehearse else _card()}.jsonl"


def _card() -> str:
    """Return the card's name as part of a file name. Ends the program if there is none."""
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("no CUDA device: this needs an NVIDIA card; --rehearse runs every part on the CPU at toy sizes")
    return re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name().lower()).strip("-")


def _environment(arguments: argparse.Namespace) -> dict[str, str]:
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    paths = os.pathsep.join([str(SCRIPT.parent.parent), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if arguments.rehearse else {}
    return {**os.environ, **offline, **hidden, "PYTHONPATH": paths}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[part.name for part in PARTS], metavar="NAME", help="only these parts")
    parser.add_argument("--out", type=Path, help="folder of the results; default: benchmarks/results")
    parser.add_argument("--model", help="folder of a model (Qwen3-0.6B or larger) for a run of twenty steps")
    parser.add_argument("--rehearse", action="store_true", help="toy sizes on the CPU")
    parser.add_argument("--seconds", type=float, help="limit of each part, instead of its own")
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
