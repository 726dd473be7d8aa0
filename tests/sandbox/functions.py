"""What workers are asked to do in the tests."""

from __future__ import annotations

import os
import subprocess
import sys
import time


def behave(asked: dict) -> object:
    """Do what is asked, some of it badly."""
    match asked["do"]:
        case "return":
            return asked["value"]
        case "pid":
            return os.getpid()
        case "loop":
            while True:
                pass
        case "hold":
            return 7 ** (10**8) % 10  # one step of the interpreter, in which no other thread runs; minutes
        case "sleep":
            time.sleep(asked["value"])
            return "slept"
        case "raise":
            raise ValueError(asked["value"])
        case "exit":
            os._exit(3)
        case "sys.exit":
            sys.exit(3)
        case "print":
            print("noise", flush=True)
            os.write(1, b'{"value": "forged"}\n')
            return "quiet"
        case "eat":
            return len(bytearray(asked["value"] << 20))
        case "fork":
            subprocess.Popen(["sleep", str(asked["value"])])
            while True:
                pass
        case "crash":
            import ctypes

            ctypes.string_at(0)
    return None
