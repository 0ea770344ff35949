"""What waits to be sent: bounded in items and bytes; a sender waits for room, nothing is dropped."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
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
    at: float = 0.0
    """When the application sent it, on the loop's clock."""


class Outbox:
    """A queue between any number of senders and one writer."""

    def __init__(
        self,
        on_ready: Callable[[], None],
        *,
        max_items: int = 64,
        max_bytes: int = 256 << 10,
        offline_items: int = 1024,
        offline_bytes: int = 1 << 20,
    ) -> None:
        """`on_ready` is called after each put. One message may exceed the bytes, so that a picture fits.

        The offline bounds hold while there is no stream. They are those of half a minute of speech: a microphone does
        not stop because a gateway does.
        """
        self._on_ready = on_ready
        self._bounds = {False: (max_items, max_bytes), True: (offline_items, offline_bytes)}
        self._offline = False
        self._items: deque[Outgoing] = deque()
        self._bytes = 0
        self._room = asyncio.Event()
        self._closed: Callable[[], Exception] | None = None
        self.discarded_items = 0
        self.discarded_bytes = 0

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Outgoing]:
        return iter(self._items)

    def raise_if_closed(self) -> None:
        """Raises what `close` was given."""
        if self._closed is not None:
            raise self._closed()

    def set_offline(self, *, offline: bool) -> None:
        """Whether there is a stream, which says how much may wait. What waits already stays."""
        self._offline = offline
        self._room.set()

    async def put(self, item: Outgoing) -> None:
        """Queues a message as soon as there is room. Cancelled while it waits: the message was not queued."""
        self.raise_if_closed()
        while self._full:
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

    def expire(self, oldest: float) -> list[Outgoing]:
        """Takes out the media that was sent before the time `oldest`."""
        expired = [item for item in self._items if item.media_class is not MediaClass.VITAL and item.at < oldest]
        if expired:
            self._items = deque(
                item for item in self._items if item.media_class is MediaClass.VITAL or item.at >= oldest
            )
            self._bytes -= sum(item.size for item in expired)
            self._room.set()
        return expired

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

    @property
    def _full(self) -> bool:
        max_items, max_bytes = self._bounds[self._offline]
        return len(self._items) >= max_items or self._bytes >= max_bytes

    def _pop(self) -> Outgoing:
        item = self._items.popleft()
        self._bytes -= item.size
        return item
