"""One `Converse` call: a task that reads and a task that writes, between gRPC and what outlives the call."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

from parley import errors, events
from parley._decode import decode
from parley._downlink import Downlink
from parley._status import FirstStatus
from parley._uplink import Uplink
from parley.v1 import live_pb2 as pb

Dial = Callable[[], tuple[grpc.aio.Channel, Any]]
"""Makes a connection and starts the call on it."""


class Stream:
    """A call, on a connection of its own, from its start until it is over.

    It is opening, then attached: the one stream that moves the session's messages. It is attached until it is over, or
    another one takes its place.
    """

    def __init__(
        self,
        dial: Dial,
        opening: pb.Open,
        uplink: Uplink,
        downlink: Downlink,
        *,
        on_opened: Callable[["Stream", events.Opened], None],
        on_all_left: Callable[[], object],
    ) -> None:
        """`on_opened` is called once, as soon as the service says `opened`; `on_all_left` when it has half-closed."""
        self._channel, self._call = dial()
        self._first_status = FirstStatus(self._call)
        self._opening = opening
        self._uplink = uplink
        self._downlink = downlink
        self._on_opened = on_opened
        self._on_all_left = on_all_left
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._ack_timer: asyncio.TimerHandle | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self.attached = False
        self.draining = False
        """Its gateway goes away."""
        self.over_at: float | None = None
        """When the call ended, well or not."""
        self.failure: errors.ParleyError | None = None
        """The error that it ended with."""

    # -- life ----------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Sends `open` and waits for `opened`. Raises the typed error of a call that ends instead."""
        for name, work in (("parley-read", self._read_all()), ("parley-write", self._write_all())):
            task = self._loop.create_task(work, name=name)
            task.add_done_callback(self._on_task_done)
            self._tasks.append(task)
        await self.until(lambda: self.attached or self.over)
        if not self.attached:
            ended = errors.InternalError("the stream ended before the session was opened", code="OK")
            raise self.failure or ended

    @property
    def over(self) -> bool:
        """The call has ended."""
        return self.over_at is not None

    def is_over(self) -> bool:
        """For `until`."""
        return self.over

    def is_leaving(self) -> bool:
        """For `until`: it is over, or will be soon."""
        return self.over or self.draining

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for a state of this stream: attached, draining, over."""
        while not condition():
            self._changed.clear()
            await self._changed.wait()

    def wake(self) -> None:
        """Something waits to be sent."""
        self._wake.set()

    def acks_changed(self) -> None:
        """The application took something: it will be acked, now or in a moment."""
        due = self._downlink.acks.due_at()
        if due is None or self.over:
            return
        if due <= self._loop.time():
            self._wake.set()
        elif self._ack_timer is None:
            self._ack_timer = self._loop.call_at(due, self._on_ack_timer)

    def detach(self) -> None:
        """Another stream has the session; from here on nothing of this one counts."""
        self.attached = False

    async def abort(self) -> None:
        """Cancels the call and the tasks, closes the connection, and waits for all of it; safe to repeat."""
        self.attached = False
        if self._ack_timer is not None:
            self._ack_timer.cancel()
        self._call.cancel()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._channel.close()

    # -- writing -------------------------------------------------------------------------------------------------

    async def _write_all(self) -> None:
        """Sends what is due, in order: `open`, then acks before numbered messages; ends with the call."""
        try:
            await self._call.write(pb.ConverseRequest(open=self._opening))
            while True:
                self._wake.clear()
                while (request := self._next_request()) is not None:
                    await self._call.write(request)
                if self.attached and self._uplink.half_closing and self._uplink.idle:
                    await self._call.done_writing()
                    self._on_all_left()
                    return
                await self._wake.wait()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # The call is over. Its status is the reader's business.
            return

    def _next_request(self) -> pb.ConverseRequest | None:
        if not self.attached or self.over:
            return None
        acks = self._downlink.acks
        due = acks.due_at()
        if due is not None and due <= self._loop.time():
            return pb.ConverseRequest(ack=pb.Ack(seq=acks.take()))
        return self._uplink.next_request()

    def _on_ack_timer(self) -> None:
        # An ack may have gone out meanwhile, and something newer wait: then its own time has not come.
        self._ack_timer = None
        self.acks_changed()

    # -- reading -------------------------------------------------------------------------------------------------

    async def _read_all(self) -> None:
        """Takes responses in until the call ends, and says how it ended."""
        try:
            # Not `read()`: once a write has failed, that one gives up what the service sent before it ended the call.
            async for response in self._call:
                if response is None:
                    self._finish(errors.InternalError("the service sent bytes that are no ConverseResponse"))
                    self._call.cancel()
                    return
                self._receive(response)
                await self._downlink.inbox.room()
        except grpc.aio.AioRpcError:
            pass
        status = await self._first_status.settled()
        self._finish(None if status is None or status.ok else status.error())

    def _receive(self, response: pb.ConverseResponse) -> None:
        event = decode(response)
        if isinstance(event, events.Opened) and not self.attached:
            self.attached = True
            self._on_opened(self, event)
            self.acks_changed()
            self._wake.set()
            self._changed.set()
        elif self.attached and event is not None:
            self._downlink.take(event)
            if isinstance(event, events.GatewayDraining):
                self.draining = True
                self._changed.set()
        if self.attached and response.acked_seq and self._uplink.ring.acked(response.acked_seq):
            self._wake.set()

    # -- how it ends ---------------------------------------------------------------------------------------------

    def _finish(self, failure: errors.ParleyError | None) -> None:
        if not self.over:
            self.over_at = self._loop.time()
            self.failure = failure
        self._wake.set()
        self._changed.set()

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        """A fault of this client must reach the application, not end as a silent stream."""
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._finish(errors.InternalError(f"the client failed: {fault!r}"))
            self._call.cancel()
