"""Which GPU a thread works on, by a stand-in for torch.cuda: there is no second GPU to see it on."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from rosd_kit.parallel import devices
from rosd_kit.serving.event_loop import EventLoopThread


class Cuda(threading.local):
    """The part of torch.cuda that is asked, with a current device for each thread."""

    device = torch.device("cuda", 0)

    def set_device(self, device: torch.device) -> None:
        self.device = device

    def current_device(self) -> int:
        assert self.device.index is not None
        return self.device.index

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    stand_in = Cuda()
    for name in ("set_device", "current_device", "is_available", "is_initialized"):
        monkeypatch.setattr(torch.cuda, name, getattr(stand_in, name))
    return stand_in


def test_a_thread_gets_the_device_of_the_one_that_starts_it(cuda: Cuda) -> None:
    cuda.set_device(torch.device("cuda", 3))
    with ThreadPoolExecutor(1, initializer=devices.same_device()) as threads:
        assert threads.submit(cuda.current_device).result() == 3
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(cuda.current_device).result() == 0


def test_every_thread_of_an_event_loop_works_on_the_device_of_its_rank(cuda: Cuda) -> None:
    import asyncio

    loop = EventLoopThread(lambda: devices.use_in_this_thread(torch.device("cuda", 5)))

    async def seen() -> list[int]:
        return [cuda.current_device(), *await asyncio.gather(*(asyncio.to_thread(cuda.current_device) for _ in range(4)))]

    try:
        assert loop.run(seen()) == [5] * 5
    finally:
        loop.close()


def test_a_rank_without_a_gpu_changes_nothing() -> None:
    devices.use_in_this_thread(torch.device("cpu"))
    devices.free_cached_memory()
    assert torch.cuda.is_available() or devices.same_device()() is None
