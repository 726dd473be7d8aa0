"""Processes of servers that the run launches: their commands, their logs, and their end with the run."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rosd_kit.errors import EngineError

_WATCHDOG = Path(__file__).with_name("watchdog.py")
#: Below the range from which Linux hands out ports to programs that ask for any.
_PORTS = range(20000, 32768)

Argument = bool | int | float | str

#: What torchrun and accelerate tell their own processes. A server that reads it would look for a rendezvous that is not its
#: own: with TORCHELASTIC_USE_AGENT_STORE it waits for a store that nobody opens.
_LAUNCHER_PREFIXES = ("TORCHELASTIC_", "ACCELERATE_", "FSDP_")
_LAUNCHER_VARIABLES = {
    *("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "ROLE_NAME"),
    *("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE"),
    *("MASTER_ADDR", "MASTER_PORT", "TORCH_NCCL_ASYNC_ERROR_HANDLING"),
}


@dataclass(frozen=True, kw_only=True)
class ServerCommand:
    """The command line and environment of one server. `program` are the arguments with which `python` starts it.

    An argument `some_name: value` becomes `--some-name value`; true makes it a flag, false leaves it out.
    """

    python: str
    program: Sequence[str]
    host: str
    port: int
    arguments: Mapping[str, Argument]
    environment: Mapping[str, str]

    @property
    def url(self) -> str:
        """Address at which the server will listen."""
        return f"http://{self.host}:{self.port}"

    def argv(self) -> list[str]:
        """Return the command line."""
        argv = [self.python, *self.program, "--host", self.host, "--port", str(self.port)]
        for name, value in self.arguments.items():
            if value is not False:
                argv.append(f"--{name.replace('_', '-')}")
                argv += [] if value is True else [str(value)]
        return argv

    def __str__(self) -> str:
        """Return the command line without its secrets."""
        argv = self.argv()
        secrets = [index + 1 for index, word in enumerate(argv) if word.endswith("-key")]
        return " ".join("***" if index in secrets else word for index, word in enumerate(argv))


class ServerProcess:
    """One server process, under a watchdog that stops it when this process ends, even if it is killed."""

    def __init__(self, command: ServerCommand, log: Path) -> None:
        self.command = command
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    def start(self) -> None:
        """Start the process without waiting until it is ready. Raises `EngineError` if it cannot be run."""
        self.stop()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._output = self.log.open("ab")
        self._output.write(f"\n== {self.command}\n".encode())
        self._output.flush()
        try:
            self._process = subprocess.Popen(
                [sys.executable, str(_WATCHDOG), *self.command.argv()],
                stdin=subprocess.PIPE,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                env=server_environment(self.command.environment),
                start_new_session=True,  # Ctrl-C goes to the run, which decides when the server stops
            )
        except OSError as error:
            raise EngineError(f"rollout.launch.python: cannot run {self.command.python!r}: {error}") from error

    @property
    def running(self) -> bool:
        """Whether the process runs, ready or not."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Stop the server and its child processes, and wait until they are gone."""
        if self._process is not None:
            assert self._process.stdin is not None
            with suppress(OSError):
                self._process.stdin.close()
            self._process.wait()
            self._process = None
        if self._output is not None:
            self._output.close()
            self._output = None

    def log_tail(self, lines: int = 15) -> str:
        """Return the last lines of the log, for an error message."""
        try:
            text = self.log.read_text(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


def server_environment(additions: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment as a server should see it: without what a launcher of ranks added, with `additions`.

    torchrun also sets OMP_NUM_THREADS=1, for the trainer's ranks; a server chooses its own number.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in _LAUNCHER_VARIABLES and not name.startswith(_LAUNCHER_PREFIXES)
    }
    if "TORCHELASTIC_RUN_ID" in os.environ:
        inherited.pop("OMP_NUM_THREADS", None)
    return {**inherited, **additions}


def free_port(host: str) -> int:
    """Return a port that nothing listens on.

    A server starts to listen long after its port was chosen and opens a dozen others before, so the port comes from a range
    that the system does not hand out itself.
    """
    for port in random.SystemRandom().sample(_PORTS, 100):
        with socket.socket() as candidate, suppress(OSError):
            candidate.bind((host, port))
            return port
    raise EngineError(f"rollout.launch.host: cannot listen on {host!r}. Name an address of this machine.")


def has_module(python: str, module: str, environment: Mapping[str, str]) -> bool:
    """Return whether an interpreter has a module in an environment, without importing it."""
    code = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({module!r}) is None)"
    try:
        result = subprocess.run([python, "-c", code], capture_output=True, timeout=60, env=server_environment(environment))
        return result.returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
