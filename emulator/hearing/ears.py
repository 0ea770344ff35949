"""The server's side of the recogniser's process: a bounded queue, one answer an utterance, a new process if it dies."""

import asyncio
import contextlib
import itertools
import json
import sys
from asyncio.subprocess import PIPE, Process
from dataclasses import dataclass
from typing import Any

import structlog

from emulator.hearing.framing import message

log = structlog.get_logger(__name__)


class HearingError(Exception):
    """The recogniser cannot be used: a grammar with a word it does not know, or a process that does not start."""


@dataclass
class Counters:
    """What became of the utterances."""

    heard: int = 0
    not_understood: int = 0
    dropped: int = 0
    """Queue full or time over."""
    dropped_bytes: int = 0
    restarts: int = 0


class Ears:
    """``start``, then ``hear`` as often as wanted, then ``stop``."""

    def __init__(self, grammars: dict[str, str], *, doubt: float, queue: int, timeout: float) -> None:
        self._setup = {"grammars": grammars, "doubt": doubt}
        self._queue = queue
        self._timeout = timeout
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[str | None]] = {}
        self._process: Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._stopped = False
        self.counters = Counters()

    @property
    def pid(self) -> int | None:
        """The process; None while there is none."""
        return self._process.pid if self._process else None

    async def start(self) -> None:
        """Start the process. Raises :class:`HearingError` if it refuses the grammars."""
        async with self._starting:
            if self._process is not None or self._stopped:
                return
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
                raise HearingError(first.get("error", "the recogniser did not start"))
            self._process = process
            self._reader = asyncio.create_task(self._read(process), name="ears")

    async def hear(self, grammar: str, pcm: bytes) -> str | None:
        """The sentence of ``grammar`` in ``pcm`` (16 kHz); None when none was understood."""
        if len(self._waiting) >= self._queue:
            self._drop(pcm, "queue full")
            return None
        number = next(self._numbers)
        answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            async with asyncio.timeout(self._timeout):
                if self._process is None:
                    await self.start()
                if self._process is None or self._process.stdin is None:
                    self._drop(pcm, "stopped")
                    return None
                self._process.stdin.write(message({"id": number, "grammar": grammar}, pcm))
                text = await answer
        except TimeoutError:
            self._drop(pcm, "too late")
            return None
        except (HearingError, OSError) as error:
            self._drop(pcm, str(error))
            return None
        finally:
            self._waiting.pop(number, None)
        if text is None:
            self.counters.not_understood += 1
        else:
            self.counters.heard += 1
        return text

    async def stop(self) -> None:
        """End the process; safe to repeat."""
        self._stopped = True
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(1):
                await process.wait()
        except TimeoutError:
            _kill(process)
            await process.wait()
        if self._reader is not None:
            await self._reader

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None
        while line := await process.stdout.readline():
            body: dict[str, Any] = json.loads(line)
            answer = self._waiting.get(body["id"])
            if answer is not None and not answer.done():
                answer.set_result(body["text"])
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_result(None)
        if self._process is process:
            # The next utterance starts another.
            self._process = None
            self.counters.restarts += 1
            log.warning("recogniser died", returncode=process.returncode)

    def _drop(self, pcm: bytes, reason: str) -> None:
        self.counters.dropped += 1
        self.counters.dropped_bytes += len(pcm)
        log.warning("utterance not heard", reason=reason, bytes=len(pcm))


def _kill(process: Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
