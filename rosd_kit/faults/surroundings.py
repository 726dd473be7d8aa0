"""What a call of a plugin must leave as it was: switches of torch, random states, folder, streams, environment and more.

Looking takes some ten microseconds, so it can be done around every call.
"""

from __future__ import annotations

import ctypes
import functools
import gc
import os
import random
import signal
import struct
import sys
import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.utils import _device as _torch_device

if TYPE_CHECKING:
    from signal import _HANDLER

#: A generator's state: its memory, or what Python makes of it.
_State = bytes | tuple[object, ...]
_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGALRM", "SIGCHLD", "SIGUSR1", "SIGUSR2", "SIGPIPE")
    if hasattr(signal, name)
)
#: `signal.getsignal` without its conversions to enumerations, which cost microseconds.
_handler: Callable[[int], _HANDLER] = import_module("_signal").getsignal
_WORDS = 624
_HEADER = object.__basicsize__


@dataclass(frozen=True)
class Item:
    """One thing to leave alone: its name in messages, how to read it and how to put it back.

    `anywhere` says that it may be looked at in any thread: it belongs to the thread, or nothing of ours ever changes it.
    """

    name: str
    read: Callable[[], object]
    restore: Callable[[Any], object]  # takes what `read` returns, which each item has a type of its own for
    anywhere: bool = True
    shown: bool = True


def _set_stream(name: str) -> Callable[[object], object]:
    return lambda stream: setattr(sys, name, stream)


def _restore_environment(before: Mapping[str | bytes, str | bytes]) -> None:
    now = _environment()
    for key in now.keys() - before.keys():
        del os.environb[os.fsencode(key)]
    for key, value in before.items():
        if now.get(key) != value:
            os.environb[os.fsencode(key)] = os.fsencode(value)


def _environment() -> dict[str | bytes, str | bytes]:
    return os.environ._data.copy()  # type: ignore[attr-defined, no-any-return]


def _filters() -> tuple[object, ...]:
    return tuple(warnings.filters)


def _restore_filters(before: Sequence[object]) -> None:
    warnings.filters[:] = before  # type: ignore[index]
    warnings._filters_mutated()  # type: ignore[attr-defined]


def _handlers() -> tuple[_HANDLER, ...]:
    return tuple([_handler(number) for number in _SIGNALS])


def _restore_handlers(before: Sequence[_HANDLER]) -> None:
    for number, handler in zip(_SIGNALS, before, strict=True):
        if _handler(number) != handler and handler is not None:
            signal.signal(number, handler)


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except OSError:  # it was removed
        return None


def _change_back(before: str | None) -> None:
    if before is not None:
        os.chdir(before)


def _device() -> object:
    return _torch_device.CURRENT_DEVICE


@functools.cache
def _view(address: int) -> ctypes.Array[ctypes.c_uint32]:
    return (ctypes.c_uint32 * (_WORDS + 1)).from_address(address)


def _copy(address: int) -> bytes:
    """Return the memory of a Mersenne twister, or the last copy if nothing was drawn since.

    Each draw moves the position, which stands before or after the words; after the last of them all words are new.
    """
    view = _view(address)
    drawn = (view[0], view[1], view[_WORDS])
    last = _copies.get(address)
    if last is None or last[0] != drawn:
        last = _copies[address] = (drawn, bytes(view))
    return last[1]


_copies: dict[int, tuple[tuple[int, int, int], bytes]] = {}


@functools.cache
def _numpy_address(generator: np.random.BitGenerator) -> int:
    return int(generator.ctypes.state_address)


def _numpy_state() -> bytes:
    """Return numpy's global state by its memory; asking for it makes a tuple of 624 numbers."""
    return _copy(_numpy_address(np.random.mtrand._rand._bit_generator))


def _restore_numpy(before: bytes) -> None:
    ctypes.memmove(_numpy_address(np.random.mtrand._rand._bit_generator), before, len(before))


def _python_memory() -> bytes:
    return _copy(id(random._inst) + _HEADER)


def _python_state() -> _State:
    """Return Python's global state: its memory where that is laid out as expected, else the tuple that Python makes of it."""
    return _python_memory() if _MEMORY_IS_KNOWN else random.getstate()


def _restore_python(before: _State) -> None:
    if isinstance(before, bytes):
        index, *words = struct.unpack(f"={_WORDS + 1}I", before)
        before = (random.getstate()[0], (*words, index), None)
    random.setstate(before)


def _memory_is_known() -> bool:
    """Return whether Python's generator is an index and 624 words after the object's header, as in CPython."""
    if sys.implementation.name != "cpython":
        return False
    words = random.getstate()[1]
    return _python_memory() == struct.pack(f"={_WORDS + 1}I", words[-1], *words[:-1])


_MEMORY_IS_KNOWN = _memory_is_known()


def _torch_state() -> bytes:
    state = torch.default_generator.get_state()
    return ctypes.string_at(state.data_ptr(), state.numel())


def _restore_torch(before: bytes) -> None:
    torch.set_rng_state(torch.frombuffer(bytearray(before), dtype=torch.uint8))


def _cuda_states() -> tuple[bytes, ...]:
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return ()
    return tuple(generator.get_state().numpy().tobytes() for generator in torch.cuda.default_generators)


def _restore_cuda(before: Sequence[bytes]) -> None:
    for number, state in enumerate(before):
        torch.cuda.set_rng_state(torch.frombuffer(bytearray(state), dtype=torch.uint8), number)


ITEMS = (
    Item("gradients", torch.is_grad_enabled, torch.set_grad_enabled),
    Item("torch's default dtype", torch.get_default_dtype, torch.set_default_dtype),
    Item("torch's default device", _device, torch.set_default_device),
    Item("torch's number of threads", torch.get_num_threads, torch.set_num_threads),
    Item("deterministic algorithms", torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    Item("the precision of matrix products", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    Item("cudnn.deterministic", torch._C._get_cudnn_deterministic, torch._C._set_cudnn_deterministic),
    Item("cudnn.benchmark", torch._C._get_cudnn_benchmark, torch._C._set_cudnn_benchmark),
    Item("autocast on the CPU", lambda: torch.is_autocast_enabled("cpu"), lambda on: torch.set_autocast_enabled("cpu", on)),
    Item("autocast on GPUs", lambda: torch.is_autocast_enabled("cuda"), lambda on: torch.set_autocast_enabled("cuda", on)),
    Item("anomaly detection", torch.is_anomaly_enabled, torch.set_anomaly_enabled),
    Item("the working directory", _working_directory, _change_back),
    Item("sys.stdin", lambda: sys.stdin, _set_stream("stdin"), shown=False),
    Item("sys.stdout", lambda: sys.stdout, _set_stream("stdout"), shown=False),
    Item("sys.stderr", lambda: sys.stderr, _set_stream("stderr"), shown=False),
    Item("the recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    Item("garbage collection", gc.isenabled, lambda on: gc.enable() if on else gc.disable()),
    Item("the environment", _environment, _restore_environment, shown=False),
    Item("warnings filters", _filters, _restore_filters, anywhere=False, shown=False),
    Item("signal handlers", _handlers, _restore_handlers, anywhere=False, shown=False),
    Item("the random state of python", _python_state, _restore_python, anywhere=False, shown=False),
    Item("the random state of numpy", _numpy_state, _restore_numpy, anywhere=False, shown=False),
    Item("the random state of torch", _torch_state, _restore_torch, anywhere=False, shown=False),
    Item("the random state of torch on GPUs", _cuda_states, _restore_cuda, anywhere=False, shown=False),
)
_EVERYWHERE = tuple(item for item in ITEMS if item.anywhere)
_READ_ALL, _READ_EVERYWHERE = (tuple(item.read for item in items) for items in (ITEMS, _EVERYWHERE))


class Surroundings(NamedTuple):  # quicker to make than a dataclass
    """What was seen before a call, in the thread of the call."""

    values: tuple[object, ...]
    modules: int
    whole: bool

    @classmethod
    def now(cls, *, alone: bool = True) -> Surroundings:
        """Look. In another thread than the main one, or with other calls beside it, only at what nothing else changes."""
        whole = alone and threading.get_ident() == threading.main_thread().ident
        reads = _READ_ALL if whole else _READ_EVERYWHERE
        return cls(tuple([read() for read in reads]), len(sys.modules), whole)

    def put_back(self) -> list[str]:
        """Put back everything that has changed and return it in words.

        A call that imports modules may add to the environment and to the filters of warnings, as many libraries do.
        """
        now = tuple([read() for read in (_READ_ALL if self.whole else _READ_EVERYWHERE)])
        if now == self.values:
            return []
        imported, changed = len(sys.modules) > self.modules, []
        for item, before, after in zip(ITEMS if self.whole else _EVERYWHERE, self.values, now, strict=True):
            if before == after or (imported and _is_of_imports(item, before, after)):
                continue
            item.restore(before)
            changed.append(f"{item.name} ({before!r} -> {after!r})" if item.shown else _described(item, before, after))
        return changed


def _is_of_imports(item: Item, before: object, after: object) -> bool:
    if isinstance(before, dict) and isinstance(after, dict):  # the environment
        return before.items() <= after.items()
    return item.name == "warnings filters"


def _described(item: Item, before: object, after: object) -> str:
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return item.name
    names = sorted(os.fsdecode(key) for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    return f"{item.name} ({', '.join(names[:5])})"
