"""An event loop in a thread of its own, for the coroutine functions of one source.

A coroutine function that blocks (a `time.sleep`, a database driver that is not asynchronous, a long computation) stops
its event loop. On the service's own loop that would stop everything: every call, the deadlines, the connection to NATS.
Here it stops its neighbours of the same source alone, whose functions may share what belongs to one loop, such as
connections. It is noticed, and named to the operator with the line at which it stands; meanwhile calls of these
functions are refused, or go to another process; those that run are answered at their deadlines.

Tasks that a function has left running when its call is over are cancelled: nobody would ever end them. What is to live
on, such as a connection that calls share, is made within `tasks_outlive_call`.

What holds Python's global lock for long stops every thread: nothing in the process can help against that.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
import threading
import traceback
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any, Final, TypeVar

import structlog

log = structlog.get_logger()
T = TypeVar("T")

LOOK_EVERY: Final = 0.25
"""Seconds between two looks at a loop on which functions run."""
BLOCKED_AFTER: Final = 1.0
"""Seconds after which a loop that does not answer is blocked."""
_GOODBYE: Final = 1.0
"""Seconds that tasks have to end when they are cancelled: those of a call that is over, all of a loop that closes."""
_owner: contextvars.ContextVar[_Owner | None] = contextvars.ContextVar("owner", default=None)


@contextlib.contextmanager
def tasks_outlive_call() -> Iterator[None]:
    """Tasks that are made within belong to no call: they are not cancelled when the one is over that made them.

    For what calls share and the first of them makes: a connection that reads in the background, a cache that refreshes
    itself.
    """
    token = _owner.set(None)
    try:
        yield
    finally:
        _owner.reset(token)


class _Owner:
    """Whose tasks they are."""

    def __init__(self, tool: str) -> None:
        self.tool = tool
        self.tasks: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()


@dataclass(slots=True, eq=False)
class _Run:
    """One function that runs on the loop, as the service's loop sees it."""

    ended: asyncio.Future[tuple[Any, BaseException | None]]
    """Its value, or what it raised."""
    task: asyncio.Task[None] | None = None
    cancelled: bool = False
    over: bool = False
    """Its function has ended. Of the loop's thread."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """What keeps a loop."""

    tool: str
    at: str
    """Where its function stands: `file:line in function`."""

    def __str__(self) -> str:
        return f"its event loop is blocked by {self.tool or 'something that was left running'} ({self.at})"


@dataclass(slots=True)
class LoopCounts:
    """Of one loop, for the ops port."""

    blocks: int = 0
    """How often it was blocked."""
    left_tasks: int = 0
    """Tasks of no call that run: they are meant to outlive it, or do not heed their cancellation."""
    cancelled_tasks: int = 0
    """Tasks that calls had left running when they were over."""
    warned: set[str] = field(default_factory=set)


class ToolLoop:
    """The loop of one source. Its methods are for the service's loop."""

    def __init__(self, source: str, *, blocked_after: float = BLOCKED_AFTER) -> None:
        self._source = source
        self._blocked_after = blocked_after
        self._service = asyncio.get_running_loop()
        self._loop = asyncio.new_event_loop()
        self._loop.set_task_factory(_owned)
        self._runs: set[_Run] = set()
        self._calls: set[asyncio.Task[None]] = set()
        """Tasks that are the calls themselves. Of the loop's thread."""
        self._beat = 0
        self._closed: asyncio.Future[None] = self._service.create_future()
        self._thread_ended: asyncio.Future[None] = self._service.create_future()
        self._thread = threading.Thread(target=self._serve, name=f"loop of {source}", daemon=True)
        self._thread.start()
        self.counts = LoopCounts()
        self.blocked: Blocked | None = None
        """What keeps it at the moment."""

    async def run(self, start: Callable[[], Awaitable[Any]], tool: str) -> Any:
        """What the function returns or raises. When this is cancelled so is the function, and its end is waited for."""
        run = _Run(self._service.create_future())
        self._runs.add(run)
        try:
            self._loop.call_soon_threadsafe(self._begin, run, start, tool, context=contextvars.copy_context())
            while True:
                try:
                    await asyncio.wait((run.ended, self._closed), return_when=asyncio.FIRST_COMPLETED)
                    break
                except asyncio.CancelledError:
                    run.cancelled = True
                    with contextlib.suppress(RuntimeError):  # closed
                        self._loop.call_soon_threadsafe(_cancel, run)
        finally:
            self._runs.discard(run)
        if not run.ended.done():
            raise asyncio.CancelledError  # closed: nobody waits for it any more
        value, error = run.ended.result()
        if error is not None:
            try:
                raise error
            finally:
                del error
        return value

    async def changes(self) -> AsyncIterator[Blocked | None]:
        """What blocks the loop, each time that something begins or ceases to. Until it is cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            if (self._runs or self.counts.left_tasks) and await self._silent():
                self.blocked = self._culprit()
                self.counts.blocks += 1
                log.error(
                    "function blocks its event loop", source=self._source, tool=self.blocked.tool, at=self.blocked.at
                )
                yield self.blocked
                while await self._silent():
                    pass
                log.warning("event loop is free again", source=self._source, tool=self.blocked.tool)
                self.blocked = None
                yield None

    async def close(self) -> None:
        """End what runs on it, if it can be ended."""
        if not self._closed.done():
            self._closed.set_result(None)
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.wait((self._thread_ended,), timeout=_GOODBYE)

    async def _silent(self) -> bool:
        """Whether the loop does not answer within the time that makes it blocked."""
        beat = self._beat
        answered: asyncio.Future[None] = self._service.create_future()

        def answer() -> None:
            self._beat += 1
            self._count_left()
            self._tell(answered, None)

        with contextlib.suppress(RuntimeError):  # closed
            self._loop.call_soon_threadsafe(answer)
        await asyncio.wait((answered, self._closed), timeout=self._blocked_after, return_when=asyncio.FIRST_COMPLETED)
        # Not whether the answer was heard: it is our own loop that may be late.
        return self._beat == beat and not self._closed.done()

    def _culprit(self) -> Blocked:
        task = asyncio.current_task(self._loop)
        frame = sys._current_frames().get(self._thread.ident or 0)
        return Blocked(task.get_name().removeprefix("tool ") if task is not None else "", _place(frame))

    # In the thread

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        while not self._closed.done():
            try:
                self._loop.run_forever()
            except BaseException:
                log.exception("task of a tool raised out of its event loop", source=self._source)
        with contextlib.suppress(BaseException):
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            if left:
                self._loop.run_until_complete(asyncio.wait(left, timeout=_GOODBYE))
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()
        self._tell(self._thread_ended, None)

    def _begin(self, run: _Run, start: Callable[[], Awaitable[Any]], tool: str) -> None:
        run.task = self._loop.create_task(self._call(run, start, tool), name=f"tool {tool}")
        self._calls.add(run.task)
        run.task.add_done_callback(self._calls.discard)
        run.task.add_done_callback(lambda _: self._settle(run, None, asyncio.CancelledError()))
        if run.cancelled:
            run.task.cancel()

    async def _call(self, run: _Run, start: Callable[[], Awaitable[Any]], tool: str) -> None:
        owner = _Owner(tool)
        _owner.set(owner)
        try:
            value = await start()
        except BaseException as error:  # noqa: BLE001 - sys.exit must end no loop; being cancelled is told the same way
            self._settle(run, None, error)
        else:
            self._settle(run, value, None)
        run.over = True
        _owner.set(None)
        if owner.tasks:
            await self._clear_up(owner)

    def _settle(self, run: _Run, value: Any, error: BaseException | None) -> None:
        self._tell(run.ended, (value, error))

    async def _clear_up(self, owner: _Owner) -> None:
        """End what a call has left running, and what that makes in turn, if it lets itself be ended."""
        await asyncio.sleep(0)  # what the function has cancelled itself ends now
        until = self._loop.time() + _GOODBYE
        asked: set[asyncio.Task[Any]] = set()
        while left := {task for task in owner.tasks if not task.done()}:
            new = left - asked
            self._report(owner, new)
            for task in new:
                task.cancel()
            asked |= new
            if (pause := until - self._loop.time()) <= 0:
                break
            await asyncio.wait(left, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
        self._count_left()

    def _report(self, owner: _Owner, left: set[asyncio.Task[Any]]) -> None:
        self.counts.cancelled_tasks += len(left)
        if left and owner.tool not in self.counts.warned:
            self.counts.warned.add(owner.tool)
            names = sorted(str(getattr(task.get_coro(), "__qualname__", "")) for task in left)
            log.warning(
                "function left tasks running; they are cancelled",
                source=self._source,
                tool=owner.tool,
                tasks=names[:5],
            )

    def _count_left(self) -> None:
        self.counts.left_tasks = len(asyncio.all_tasks(self._loop) - self._calls)

    def _tell(self, future: asyncio.Future[T], result: T) -> None:
        with contextlib.suppress(RuntimeError):  # the service's loop is closed: nobody waits any more
            self._service.call_soon_threadsafe(_set, future, result)


def _set(future: asyncio.Future[T], result: T) -> None:
    if not future.done():
        future.set_result(result)


def _cancel(run: _Run) -> None:
    if run.task is not None and not run.over:
        run.task.cancel()


def _owned(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
    """A task, remembered with the function during whose call it was made."""
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
    if (owner := _owner.get()) is not None:
        owner.tasks.add(task)
    return task


def _place(frame: FrameType | None) -> str:
    """The innermost line of the function's own, as far as that can be told."""
    if frame is None:
        return "nowhere"
    inner = traceback.extract_stack(frame)[-1]
    return f"{inner.filename}:{inner.lineno} in {inner.name}"
