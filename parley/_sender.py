"""The order in which an application's messages leave: that of its calls, with audio cut into frames."""

import asyncio
from collections.abc import Callable
from typing import Any

from parley._framing import Framer
from parley._outbox import Outbox, Outgoing
from parley._ring import MediaClass


class Sender:
    """Puts messages into the outbox, one call after the other, and can be cancelled anywhere.

    A call has its turn until all of it is queued; without that, a text could overtake the frames of audio that wait
    for room. `Framer.rest` changes only together with what was queued, so a cancelled call loses nothing of an
    earlier one.
    """

    def __init__(self, outbox: Outbox, framer: Framer) -> None:
        self._outbox = outbox
        self._framer = framer
        self._turn = asyncio.Lock()
        self._last: str | None = None

    async def audio(self, pcm: bytes) -> None:
        """Queues the whole frames; a rest waits for more. Cancelled: of `pcm`, exactly the frames queued so far."""
        async with self._turn:
            self._outbox.raise_if_closed()
            frames, rest = self._framer.cut(pcm)
            for frame in frames:
                await self._put_frame(frame)
            self._framer.rest = rest

    async def video(self, message: Any, size: int) -> None:
        """Queues a picture; it does not wait for a frame to become whole."""
        async with self._turn:
            await self._put("video", message, MediaClass.VIDEO, size)

    async def vital(self, payload: str, message: Any) -> None:
        """Queues what is never shed, after the rest of the audio."""
        async with self._turn:
            await self._put_vital(payload, message)

    async def last(self, error: Callable[[], Exception], payload: str = "", message: Any = None) -> None:
        """Queues the rest of the audio and, if given, a last message; every later call raises `error`.

        Safe to repeat, also while the first call waits.
        """
        async with self._turn:
            if self._last == payload:
                return
            if payload:
                await self._put_vital(payload, message)
            else:
                await self._flush()
            self._outbox.close(error, discard=False)
            self._last = payload

    async def _put_vital(self, payload: str, message: Any) -> None:
        self._outbox.raise_if_closed()
        await self._flush()
        await self._put(payload, message, MediaClass.VITAL, message.ByteSize())

    async def _flush(self) -> None:
        if self._framer.rest:
            await self._put_frame(self._framer.rest)

    async def _put_frame(self, frame: bytes) -> None:
        await self._put("audio", frame, MediaClass.AUDIO, len(frame))
        self._framer.rest = b""

    async def _put(self, payload: str, message: Any, media_class: MediaClass, size: int) -> None:
        await self._outbox.put(Outgoing(payload, message, media_class, size, asyncio.get_running_loop().time()))
