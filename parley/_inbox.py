"""What came and was not taken yet: bounded, so that a caller who does not listen holds the service back."""

import asyncio
from collections import deque

from parley import events


class Inbox:
    """A queue between the reader and the application.

    Past a bound the reader waits for `room` before it reads on, so that gRPC's flow control (and the missing acks) stop
    the service. `void` takes out audio that nobody is to hear any more.
    """

    def __init__(self, *, max_items: int = 512, max_bytes: int = 1 << 20) -> None:
        """The default holds 20 s of 24 kHz speech; the service sends far less beyond what is acked."""
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._items: deque[events.Event] = deque()
        self._bytes = 0
        self._closed = False
        self._room = asyncio.Event()
        self._ready = asyncio.Event()
        self.voided_items = 0
        self.voided_bytes = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def full(self) -> bool:
        """Nothing more should be read."""
        return len(self._items) >= self._max_items or self._bytes >= self._max_bytes

    async def room(self) -> None:
        """Waits until it is not full."""
        while not self._closed and self.full:
            self._room.clear()
            await self._room.wait()

    def put(self, event: events.Event) -> None:
        """Queues an event at once: whoever reads waits for `room` first. Never waiting, it never loses one either."""
        self._items.append(event)
        self._bytes += _size(event)
        self._ready.set()

    def tell(self, event: events.Event) -> None:
        """Queues an event of this client itself, which waits for no room; beyond twice the bound it is left out."""
        if len(self._items) < 2 * self._max_items:
            self.put(event)

    async def get(self) -> events.Event | None:
        """The next event; None when the inbox is closed and empty. Cancelled: no event is lost."""
        while not self._items:
            if self._closed:
                return None
            self._ready.clear()
            await self._ready.wait()
        event = self._items.popleft()
        self._bytes -= _size(event)
        self._room.set()
        return event

    def void(self, first: int, last: int) -> None:
        """Drops queued audio numbered `first` to `last`, both included, and counts it."""
        if last < first:
            return
        kept: deque[events.Event] = deque()
        for event in self._items:
            if isinstance(event, events.Audio) and first <= event.seq <= last:
                self.voided_items += 1
                self.voided_bytes += len(event.pcm)
                self._bytes -= len(event.pcm)
            else:
                kept.append(event)
        self._items = kept
        self._room.set()

    def close(self) -> None:
        """Nothing more comes; what is queued can still be taken."""
        self._closed = True
        self._room.set()
        self._ready.set()


def _size(event: events.Event) -> int:
    return len(event.pcm) if isinstance(event, events.Audio) else 0
