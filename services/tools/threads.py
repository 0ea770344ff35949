"""A thread pool for functions that block.

Not `ThreadPoolExecutor`: the interpreter waits for its threads at exit, so one function that hangs would keep the
process from ending. These threads are daemons. The pool grows to `max_threads` and has no queue of its own worth the
name, because whoever calls it has as many slots as it has threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import queue
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class DaemonThreads:
    """Threads that do not hold the process up."""

    def __init__(self, max_threads: int) -> None:
        self._max_threads = max_threads
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = 0
        self._busy = 0

    @property
    def busy(self) -> int:
        """Jobs that run or wait."""
        return self._busy

    def run(self, job: Callable[[], T]) -> asyncio.Future[T]:
        """Run `job` in a thread, in a copy of the current context. `job` must not raise.

        Cancelling the future does not stop the thread: nothing can.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        context = contextvars.copy_context()

        def settle(result: T) -> None:
            if not future.done():
                future.set_result(result)

        def work() -> None:
            result = context.run(job)
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile: nobody waits any more
                loop.call_soon_threadsafe(settle, result)

        with self._lock:
            self._busy += 1
            grow = self._busy > self._threads and self._threads < self._max_threads
            if grow:
                self._threads += 1
        self._jobs.put(work)
        if grow:
            threading.Thread(target=self._serve, name="tool", daemon=True).start()
        return future

    def close(self) -> None:
        """Let idle threads end; busy ones end after their job."""
        for _ in range(self._threads):
            self._jobs.put(None)

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            finally:
                with self._lock:
                    self._busy -= 1
            del job  # or its arguments and result would live until the next one comes
