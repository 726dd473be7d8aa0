"""An event loop in a thread of its own, for a run that is otherwise an ordinary program."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """Runs coroutines while the caller waits, or while it works on those that have finished."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rosd-kit-sglang", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run to the end and return the result; an interrupt meanwhile cancels the work."""
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def stream(self, questions: Sequence[Callable[[], Awaitable[T]]]) -> Iterator[tuple[int, T]]:
        """Ask all at once and yield (index, answer) as they come. The first error ends all of them and is raised."""
        finished: queue.SimpleQueue[tuple[int, T] | BaseException] = queue.SimpleQueue()

        async def ask(index: int, question: Callable[[], Awaitable[T]]) -> None:
            finished.put((index, await question()))

        async def ask_all() -> None:
            try:
                async with asyncio.TaskGroup() as group:
                    for index, question in enumerate(questions):
                        group.create_task(ask(index, question))
            except BaseExceptionGroup as errors:
                finished.put(_first(errors))
            except BaseException as error:
                finished.put(error)
                raise

        future = asyncio.run_coroutine_threadsafe(ask_all(), self._loop)
        try:
            for _ in questions:
                answer = finished.get()
                if isinstance(answer, BaseException):
                    raise answer
                yield answer
        finally:
            future.cancel()

    def close(self) -> None:
        """Stop the loop and end its thread."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        if not self._thread.is_alive() and not self._loop.is_closed():
            self._loop.close()


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
