"""What is said in an utterance, asked of a few recognisers: never more at a time than their queue holds."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import structlog

from emulator.hearing.recogniser import Gone, HearingError, Recogniser
from emulator.hearing.remembered import Remembered

log = structlog.get_logger(__name__)

# Of the queue, the part that guesses may fill: what has been said in full comes first.
_FOR_GUESSES = 0.25

_Outcome = tuple[str | None, str]
"""What was understood; and why nothing was, where no recogniser has answered."""


@dataclass
class Counters:
    """What became of the utterances."""

    heard: int = 0
    not_understood: int = 0
    remembered: int = 0
    """Had been heard before, or were being heard, so that no recogniser was asked."""
    dropped: int = 0
    """Queue full, time over, or the recogniser gone."""
    dropped_bytes: int = 0
    guesses: int = 0
    """Of utterances under way."""
    guesses_dropped: int = 0
    restarts: int = 0


@dataclass(frozen=True)
class Bounds:
    """Of what waits for the recognisers."""

    utterances: int
    size: int
    """Bytes."""
    timeout: float
    """Seconds after which an utterance is not understood."""


class Ears:
    """``start``, then ``hear`` as often as wanted, then ``stop``."""

    def __init__(
        self, grammars: dict[str, str], *, doubt: float, bounds: Bounds, processes: int = 1, remembered: int = 0
    ) -> None:
        """``remembered``: how many utterances are not asked about again."""
        setup = {"grammars": grammars, "doubt": doubt}
        self._recognisers = [Recogniser(setup, timeout=bounds.timeout) for _ in range(processes)]
        self._remembered = Remembered(remembered)
        self._shares = remembered > 0
        """Whether who asks what is being asked already waits for that answer."""
        self._asking: dict[object, asyncio.Task[_Outcome]] = {}
        """By the key of what is asked, where that is shared."""
        self._bounds = bounds
        self._waiting = 0
        self._waiting_bytes = 0
        self._counters = Counters()

    @property
    def counters(self) -> Counters:
        """As of now."""
        self._counters.restarts = sum(recogniser.deaths for recogniser in self._recognisers)
        return self._counters

    @property
    def pids(self) -> list[int]:
        """The processes that run."""
        return [recogniser.pid for recogniser in self._recognisers if recogniser.pid is not None]

    async def start(self) -> None:
        """Start the processes. Raises :class:`HearingError` if they refuse the grammars."""
        await asyncio.gather(*(recogniser.start() for recogniser in self._recognisers))

    async def hear(self, grammar: str, pcm: bytes, *, free: bool = False) -> str | None:
        """The sentence of ``grammar`` in ``pcm`` (16 kHz); None when none was understood.

        ``free`` takes other English, too.
        """
        key = self._remembered.key(grammar, pcm, free=free)
        if key in self._remembered:
            self._counters.remembered += 1
            return self._counted(self._remembered[key])
        asking = self._asking.get(key)
        if asking is not None:
            self._counters.remembered += 1
        elif self._waiting >= self._bounds.utterances or self._waiting_bytes + len(pcm) > self._bounds.size:
            self._drop(pcm, "queue full")
            return None
        else:
            asking = self._asked(key, {"grammar": grammar, "free": free}, pcm)
        # Whoever asked first may go: others may wait for the answer.
        text, lost = await asyncio.shield(asking)
        if lost:
            self._drop(pcm, lost)
            return None
        return self._counted(text)

    async def guess(self, grammar: str, pcm: bytes, *, free: bool = False) -> str | None:
        """The words that seem to have been said so far in an utterance under way; None when there are none yet.

        Much that waits already is served first: then there is no guess.
        """
        if self._waiting >= self._bounds.utterances * _FOR_GUESSES or self._waiting_bytes > self._bounds.size / 2:
            self._counters.guesses_dropped += 1
            return None
        try:
            text = await self._ask({"grammar": grammar, "free": free, "guess": True}, pcm)
        except (TimeoutError, Gone, HearingError, OSError):
            self._counters.guesses_dropped += 1
            return None
        self._counters.guesses += 1
        return text

    async def stop(self) -> None:
        """End the processes; safe to repeat."""
        await asyncio.gather(*(recogniser.stop() for recogniser in self._recognisers))
        await asyncio.gather(*self._asking.values())

    def _asked(self, key: bytes, question: dict[str, Any], pcm: bytes) -> asyncio.Task[_Outcome]:
        name = key if self._shares else object()
        asking = asyncio.create_task(self._outcome(key, self._ask(question, pcm)), name="hearing")
        self._asking[name] = asking
        asking.add_done_callback(lambda _: self._asking.pop(name))
        return asking

    async def _outcome(self, key: bytes, answer: Coroutine[Any, Any, str | None]) -> _Outcome:
        try:
            text = await answer
        except TimeoutError:
            return None, "too late"
        except (Gone, HearingError, OSError) as error:
            return None, str(error) or "recogniser gone"
        self._remembered.keep(key, text)
        return text, ""

    def _ask(self, question: dict[str, Any], pcm: bytes) -> Coroutine[Any, Any, str | None]:
        """Waits from now on, not only once it is awaited."""
        self._waiting += 1
        self._waiting_bytes += len(pcm)
        return self._answer(question, pcm)

    async def _answer(self, question: dict[str, Any], pcm: bytes) -> str | None:
        try:
            return await _least_busy(self._recognisers).ask(question, pcm)
        finally:
            self._waiting -= 1
            self._waiting_bytes -= len(pcm)

    def _counted(self, text: str | None) -> str | None:
        if text is None:
            self._counters.not_understood += 1
        else:
            self._counters.heard += 1
        return text

    def _drop(self, pcm: bytes, reason: str) -> None:
        self._counters.dropped += 1
        self._counters.dropped_bytes += len(pcm)
        log.warning("utterance not heard", reason=reason, bytes=len(pcm))


def _least_busy(recognisers: list[Recogniser]) -> Recogniser:
    return min(recognisers, key=lambda recogniser: recogniser.load)
