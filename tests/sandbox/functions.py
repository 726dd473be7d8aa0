"""A function for worker processes that succeeds or fails in the way a test asks for."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

_seen: list[int] = []


def _nested(depth: int) -> object:
    value: object = []
    for _ in range(depth):
        value = [value]
    return value


def behave(order: dict) -> object:
    """Return, raise, loop, crash or allocate, as `order["do"]` says."""
    match order["do"]:
        case "return":
            return order["value"]
        case "pid":
            return os.getpid()
        case "loop":
            while True:
                pass
        case "hold":
            return 7 ** (10**8) % 10  # one bytecode that blocks all threads for minutes
        case "sleep":
            time.sleep(order["value"])
            return "slept"
        case "raise":
            raise ValueError(order["value"])
        case "exit":
            os._exit(3)
        case "sys.exit":
            sys.exit(3)
        case "print":
            print("noise", flush=True)
            os.write(1, b'{"value": "forged"}\n')
            return "quiet"
        case "allocate":
            return len(bytearray(order["value"] << 20))
        case "brackets":
            return _nested(order["value"])
        case "remember":
            _seen.append(1)
            return len(_seen)
        case "evaluate":
            exec("_seen.append(1)", globals())
            return len(_seen)
        case "write":
            with open(order["value"], "w") as file:
                file.write("here")
        case "read":
            with open(order["value"]) as file:
                return file.read()
        case "connect":
            socket.create_connection(("127.0.0.1", order["value"]))
        case "environment":
            return sorted(os.environ)
        case "forge":  # what a program in the sandbox may write instead of an answer
            os.write(63, order["value"].encode("latin-1"))
            os._exit(0)
        case "fork":
            subprocess.Popen(["sleep", str(order["value"])])
            while True:
                pass
        case "crash":
            import ctypes

            ctypes.string_at(0)
    return None
