"""A server that the run launches itself: its command, its log, and its end with the run."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rosd_kit.errors import EngineError

_GUARD = Path(__file__).with_name("watchdog.py")
_PORTS = range(20000, 32768)

Argument = bool | int | float | str


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to run: an interpreter that has SGLang, a model, and the server's own arguments.

    An argument `some_name: value` becomes `--some-name value`; true is a flag, false leaves it out.
    """

    python: str
    model: str
    host: str
    port: int
    arguments: Mapping[str, Argument]
    environment: Mapping[str, str]

    @property
    def url(self) -> str:
        """Where the server will listen."""
        return f"http://{self.host}:{self.port}"

    def words(self) -> list[str]:
        """Return the command line."""
        words = [self.python, "-m", "sglang.launch_server", "--model-path", self.model]
        words += ["--host", self.host, "--port", str(self.port)]
        for name, value in self.arguments.items():
            if value is not False:
                words.append(f"--{name.replace('_', '-')}")
                words += [] if value is True else [str(value)]
        return words

    def __str__(self) -> str:
        words = self.words()
        secret = [place + 1 for place, word in enumerate(words) if word.endswith("-key")]
        return " ".join("***" if place in secret else word for place, word in enumerate(words))


class Server:
    """The process of one server, held by a guard that stops it when this process ends in any way."""

    def __init__(self, command: Command, log: Path) -> None:
        self.command = command
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    def start(self) -> None:
        """Start the process; it is not ready yet. Raises `EngineError` where there is no such interpreter."""
        self.stop()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self._output = self.log.open("ab")
        self._output.write(f"\n== {self.command}\n".encode())
        self._output.flush()
        try:
            self._process = subprocess.Popen(
                [sys.executable, str(_GUARD), *self.command.words()],
                stdin=subprocess.PIPE,
                stdout=self._output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.command.environment},
                start_new_session=True,  # an interrupt at the terminal is for the run, which then decides
            )
        except OSError as error:
            raise EngineError(f"rollout.launch.python: cannot run {self.command.python!r}: {error}") from error

    @property
    def alive(self) -> bool:
        """Whether the process runs, ready or not."""
        return self._process is not None and self._process.poll() is None

    def stop(self) -> None:
        """Stop the server and everything that it started, and wait until they are gone."""
        if self._process is not None:
            assert self._process.stdin is not None
            with suppress(OSError):
                self._process.stdin.close()
            self._process.wait()
            self._process = None
        if self._output is not None:
            self._output.close()
            self._output = None

    def last_words(self, lines: int = 15) -> str:
        """Return the end of the log, for an error message."""
        try:
            text = self.log.read_text(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


def free_port(host: str) -> int:
    """Return a port that nobody listens on.

    It lies below the ports that Linux gives to whoever asks for any: a server listens long after its port was chosen, and
    opens a dozen others before.
    """
    for port in random.SystemRandom().sample(_PORTS, 100):
        with socket.socket() as found, suppress(OSError):
            found.bind((host, port))
            return port
    raise EngineError(f"rollout.launch.host: cannot listen on {host!r}. Name an address of this machine.")


def has_sglang(python: str, environment: Mapping[str, str]) -> bool:
    """Return whether an interpreter could import SGLang in an environment; it is looked for, not imported."""
    code = "import importlib.util, sys; sys.exit(importlib.util.find_spec('sglang') is None)"
    try:
        found = subprocess.run([python, "-c", code], capture_output=True, timeout=60, env={**os.environ, **environment})
        return found.returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
