"""One recogniser's process as its server sees it: questions in, one answer each out, an end if it gets stuck."""

import asyncio
import contextlib
import itertools
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from emulator.hearing.framing import message

log = structlog.get_logger(__name__)


class HearingError(Exception):
    """The recogniser cannot be used: a grammar with a word it does not know, or a process that does not start."""

    def __init__(self, reason: str, grammar: str = "", words: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.grammar = grammar
        """The name of the one at fault, and below the words; empty where it is neither."""
        self.words = list(words)


class Gone(Exception):  # noqa: N818 - an outcome: whoever asked does without
    """The process died, or was stopped, before it answered."""


@dataclass
class _Run:
    """One life of the process."""

    process: Process
    waiting: dict[int, asyncio.Future[str | None]] = field(default_factory=dict)
    progress: float = 0.0
    """When it last answered, or was last asked while it had nothing to do."""

    def ask(self, number: int, question: dict[str, Any], pcm: bytes) -> asyncio.Future[str | None]:
        loop = asyncio.get_running_loop()
        if not self.waiting:
            self.progress = loop.time()
        answer = self.waiting[number] = loop.create_future()
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(message({"id": number, **question}, pcm))
        except RuntimeError:
            # uvloop's word for a pipe that is closed: the process has died, and its reader has not come to see it.
            raise Gone from None
        return answer


class Recogniser:
    """A process that is started when it is first needed and again after it died. ``timeout``: see :meth:`ask`."""

    def __init__(self, setup: dict[str, Any], *, timeout: float) -> None:
        self._setup = setup
        self._timeout = timeout
        self._numbers = itertools.count(1)
        self._run: _Run | None = None
        self._readers: set[asyncio.Task[None]] = set()
        self._starting = asyncio.Lock()
        self._stopped = False
        self.load = 0
        """Questions that wait for an answer."""
        self.deaths = 0

    @property
    def pid(self) -> int | None:
        """The process; None while there is none."""
        return self._run.process.pid if self._run else None

    async def start(self) -> None:
        """Start the process unless it runs. Raises :class:`HearingError` if it refuses the grammars."""
        await self._running()

    async def ask(self, question: dict[str, Any], pcm: bytes) -> str | None:
        """What it understood. Raises TimeoutError, :class:`Gone` and what :meth:`start` raises.

        One that has answered nothing at all for ``timeout`` seconds is stuck, and is replaced.
        """
        number = next(self._numbers)
        run: _Run | None = None
        self.load += 1
        try:
            async with asyncio.timeout(self._timeout):
                run = self._run or await self._running()
                return await run.ask(number, question, pcm)
        except TimeoutError:
            if run is not None and asyncio.get_running_loop().time() - run.progress >= self._timeout:
                log.warning("recogniser is stuck", pid=run.process.pid)
                self._lost(run)
                _kill(run.process)
            raise
        finally:
            self.load -= 1
            if run is not None:
                run.waiting.pop(number, None)

    async def stop(self) -> None:
        """End the process; safe to repeat."""
        self._stopped = True
        run, self._run = self._run, None
        if run is not None:
            assert run.process.stdin is not None
            run.process.stdin.close()
            try:
                async with asyncio.timeout(1):
                    await run.process.wait()
            except TimeoutError:
                _kill(run.process)
                await run.process.wait()
        await asyncio.gather(*self._readers)

    async def _running(self) -> _Run:
        async with self._starting:
            if self._run is not None:
                return self._run
            if self._stopped:
                raise Gone
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "emulator.hearing.worker", stdin=PIPE, stdout=PIPE
            )
            assert process.stdin is not None and process.stdout is not None
            try:
                process.stdin.write(message(self._setup))
                first = json.loads(await process.stdout.readline() or b"{}")
            except BaseException:
                _kill(process)
                raise
            if "ready" not in first:
                await process.wait()
                raise HearingError(
                    first.get("error", "the recogniser did not start"), first.get("grammar", ""), first.get("words", [])
                )
            run = self._run = _Run(process)
            reader = asyncio.create_task(self._read(run), name="recogniser")
            self._readers.add(reader)
            reader.add_done_callback(self._readers.discard)
            return run

    async def _read(self, run: _Run) -> None:
        assert run.process.stdout is not None
        while line := await run.process.stdout.readline():
            run.progress = asyncio.get_running_loop().time()
            body: dict[str, Any] = json.loads(line)
            answer = run.waiting.get(body["id"])
            if answer is not None and not answer.done():
                answer.set_result(body["text"])
        for answer in run.waiting.values():
            if not answer.done():
                answer.set_exception(Gone())
        self._lost(run)
        await run.process.wait()

    def _lost(self, run: _Run) -> None:
        """The next question starts another."""
        if self._run is run:
            self._run = None
            self.deaths += 1
            log.warning("recogniser lost", pid=run.process.pid)


def _kill(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
