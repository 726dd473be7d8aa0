"""An event loop in a thread of its own, for a run that is otherwise an ordinary program."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, TypeVar

from rosd_kit.errors import EngineError

T = TypeVar("T")

_CLOSED = "rollout: the engine was closed."


class LoopThread:
    """Runs coroutines while the caller waits, or while it works on those that have finished."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rosd-kit-sglang", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to the end and return the result; an interrupt meanwhile cancels the work."""
        future = self._submit(work)
        try:
            return future.result()
        except CancelledError:
            raise EngineError(_CLOSED) from None
        except BaseException:
            future.cancel()
            raise

    def stream(self, questions: Sequence[Callable[[], Awaitable[T]]]) -> Iterator[tuple[int, T]]:
        """Ask all at once and yield (index, answer) as they come. The first error ends all of them and is raised."""
        finished: queue.SimpleQueue[tuple[int, T] | BaseException] = queue.SimpleQueue()

        async def ask(index: int, question: Callable[[], Awaitable[T]]) -> None:
            finished.put((index, await question()))

        async def ask_all() -> None:
            async with asyncio.TaskGroup() as group:
                for index, question in enumerate(questions):
                    group.create_task(ask(index, question))

        def ended(future: Future[None]) -> None:
            error = EngineError(_CLOSED) if future.cancelled() else future.exception()
            if error is not None:
                finished.put(_first(error))

        future = self._submit(ask_all())
        future.add_done_callback(ended)
        try:
            for _ in questions:
                answer = finished.get()
                if isinstance(answer, BaseException):
                    raise answer
                yield answer
        finally:
            future.cancel()

    def cancel(self) -> None:
        """End whatever is under way; whoever waits for it gets an `EngineError`."""

        async def end() -> None:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=5)

        if not self._loop.is_closed():
            self.run(end())

    def close(self) -> None:
        """Stop the loop and end its thread."""
        self.cancel()
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        if not self._thread.is_alive() and not self._loop.is_closed():
            self._loop.close()

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        if self._loop.is_closed():
            work.close()
            raise EngineError(_CLOSED)
        return asyncio.run_coroutine_threadsafe(work, self._loop)


def _first(found: BaseException) -> BaseException:
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
