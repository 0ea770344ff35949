"""What waits to be sent: bounded in items and bytes; a sender waits for room, nothing is dropped."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from parley._ring import MediaClass


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message without its number: numbers are given when it leaves, after neighbours were joined."""

    payload: str
    """Field of `ConverseRequest`."""
    message: Any
    """The message of that field; for `audio` one frame of PCM."""
    media_class: MediaClass
    size: int
    """Bytes, about."""


class Outbox:
    """A queue between any number of senders and one writer."""

    def __init__(self, on_ready: Callable[[], None], *, max_items: int = 64, max_bytes: int = 256 << 10) -> None:
        """`on_ready` is called after each put. One message may exceed `max_bytes`, so that a picture fits."""
        self._on_ready = on_ready
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._items: deque[Outgoing] = deque()
        self._bytes = 0
        self._room = asyncio.Event()
        self._closed: Callable[[], Exception] | None = None
        self.discarded_items = 0
        self.discarded_bytes = 0

    def __len__(self) -> int:
        return len(self._items)

    def raise_if_closed(self) -> None:
        """Raises what `close` was given."""
        if self._closed is not None:
            raise self._closed()

    async def put(self, item: Outgoing) -> None:
        """Queues a message as soon as there is room. Cancelled while it waits: the message was not queued."""
        self.raise_if_closed()
        while len(self._items) >= self._max_items or self._bytes >= self._max_bytes:
            self._room.clear()
            await self._room.wait()
            self.raise_if_closed()
        self._items.append(item)
        self._bytes += item.size
        self._on_ready()

    def take(self, *, max_audio_bytes: int) -> list[Outgoing]:
        """The next message, or all neighbouring audio frames that wait, up to `max_audio_bytes`; empty: nothing."""
        if not self._items:
            return []
        taken = [self._pop()]
        if taken[0].media_class is MediaClass.AUDIO:
            size = taken[0].size
            while self._items and self._items[0].media_class is MediaClass.AUDIO:
                size += self._items[0].size
                if size > max_audio_bytes:
                    break
                taken.append(self._pop())
        self._room.set()
        return taken

    def close(self, error: Callable[[], Exception], *, discard: bool) -> None:
        """Refuses further puts, also those that wait. With `discard`, forgets what is queued, and counts it.

        The first `error` wins.
        """
        self._closed = self._closed or error
        if discard:
            self.discarded_items += len(self._items)
            self.discarded_bytes += self._bytes
            self._items.clear()
            self._bytes = 0
        self._room.set()

    def _pop(self) -> Outgoing:
        item = self._items.popleft()
        self._bytes -= item.size
        return item
