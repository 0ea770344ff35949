"""One `Converse` call: a task that reads, a task that writes, and the queues between them and the application."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc

from parley import errors, events
from parley._acks import AckPolicy
from parley._decode import decode
from parley._inbox import Inbox
from parley._outbox import Outbox
from parley._ring import MediaClass, UplinkRing
from parley._status import FirstStatus
from parley.audit import SequenceAudit
from parley.v1 import live_pb2 as pb


class Stream:
    """A call from its start until it has ended; `Session` is what an application sees of it."""

    def __init__(self, call: Any, open_request: pb.ConverseRequest, *, max_joined_bytes: int, after: int) -> None:
        """`max_joined_bytes`: how much waiting audio leaves in one message. `after`: what a resumed caller has."""
        self._call = call
        self._first_status = FirstStatus(call)
        self._open_request: pb.ConverseRequest | None = open_request
        self._max_joined_bytes = max_joined_bytes
        self._loop = asyncio.get_running_loop()
        self._wake = asyncio.Event()
        self.outbox = Outbox(self._wake.set)
        self.inbox = Inbox()
        self.ring = UplinkRing()
        self.audit = SequenceAudit(after=after)
        self._acks = AckPolicy(after=after)
        self._ack_timer: asyncio.TimerHandle | None = None
        self.next_seq = 1
        self.opened: asyncio.Future[events.Opened] = self._loop.create_future()
        self.ended: events.Ended | None = None
        self.finished = False
        """The call is over, well or not."""
        self._half_closing = False
        self._failure: Callable[[], Exception] | None = None
        self._failure_seen = False
        self._reader: asyncio.Task[None] | None = None
        self._writer: asyncio.Task[None] | None = None

    # -- life ----------------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Sends `open` and waits for `opened`. Raises the typed error of a call that ends instead."""
        self._reader = self._loop.create_task(self._read_all(), name="parley-read")
        self._writer = self._loop.create_task(self._write_all(), name="parley-write")
        for task in (self._reader, self._writer):
            task.add_done_callback(self._on_task_done)
        self._wake.set()
        self.next_seq = (await self.opened).next_uplink_seq or 1

    async def half_close(self) -> None:
        """Writes what waits and closes this direction; returns when that is done, or the call is over."""
        self._half_closing = True
        self._wake.set()
        if self._writer is not None:
            await asyncio.wait([self._writer])

    async def abort(self) -> None:
        """Cancels the call and the tasks, and waits for them; safe to repeat."""
        if self._ack_timer is not None:
            self._ack_timer.cancel()
        self._call.cancel()
        tasks = [task for task in (self._reader, self._writer) if task is not None]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if not self.opened.done():
            self.opened.cancel()

    def raise_failure(self, *, unseen: bool = False) -> None:
        """Raises the error that the call ended with, if it did; with `unseen`, only the first time it is raised."""
        if self._failure is not None and not (unseen and self._failure_seen):
            raise self._error()

    def took(self, event: events.Event) -> None:
        """The application took an event: it will be acked."""
        seconds = event.seconds if isinstance(event, events.Audio) else 0.0
        self._acks.consumed(event.seq, seconds, self._loop.time())
        self._arm_ack()

    # -- writing -------------------------------------------------------------------------------------------------

    async def _write_all(self) -> None:
        """Sends what is due, in order: `open`, acks, then the outbox; ends with the call."""
        try:
            while True:
                self._wake.clear()
                while (request := self._next_request()) is not None:
                    await self._call.write(request)
                if self._half_closing and not len(self.outbox):
                    await self._call.done_writing()
                    return
                await self._wake.wait()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            # The call is over. Its status is the reader's business.
            return

    def _next_request(self) -> pb.ConverseRequest | None:
        if self._open_request is not None:
            request, self._open_request = self._open_request, None
            return request
        due = self._acks.due_at()
        if due is not None and due <= self._loop.time():
            return pb.ConverseRequest(ack=pb.Ack(seq=self._acks.take()))
        if self.ring.full:
            return None
        taken = self.outbox.take(max_audio_bytes=self._max_joined_bytes)
        if not taken:
            return None
        first = taken[0]
        request = pb.ConverseRequest(seq=self.next_seq)
        if first.media_class is MediaClass.AUDIO:
            request.audio.frames.extend(item.message for item in taken)
        else:
            getattr(request, first.payload).CopyFrom(first.message)
            # An empty message is a payload too; copying one does not make it present.
            getattr(request, first.payload).SetInParent()
        self.ring.add(self.next_seq, first.media_class, sum(item.size for item in taken), request)
        self.next_seq += 1
        return request

    def _arm_ack(self) -> None:
        due = self._acks.due_at()
        if due is None or self.finished:
            return
        if due <= self._loop.time():
            self._wake.set()
        elif self._ack_timer is None:
            self._ack_timer = self._loop.call_at(due, self._on_ack_timer)

    def _on_ack_timer(self) -> None:
        self._ack_timer = None
        due = self._acks.due_at()
        if due is not None and due > self._loop.time():
            # An ack went out meanwhile and something newer waits: its own time has not come.
            self._arm_ack()
        else:
            self._wake.set()

    # -- reading -------------------------------------------------------------------------------------------------

    async def _read_all(self) -> None:
        """Moves responses to the inbox until the call ends, and says how it ended."""
        try:
            # Not `read()`: once a write has failed, that one gives up what the service sent before it ended the call.
            async for response in self._call:
                if response is None:
                    self._finish(lambda: errors.InternalError("the service sent bytes that are no ConverseResponse"))
                    self._call.cancel()
                    return
                await self._receive(response)
        except grpc.aio.AioRpcError:
            pass
        self._finish(await self._failure_of_status())

    async def _receive(self, response: pb.ConverseResponse) -> None:
        if response.acked_seq and self.ring.acked(response.acked_seq):
            self._wake.set()
        event = decode(response)
        if event is None:
            return
        self.audit.feed_event(event)
        if isinstance(event, events.Interrupted):
            self.inbox.void(event.void_from, event.void_to)
        elif isinstance(event, events.Opened) and not self.opened.done():
            self.opened.set_result(event)
        elif isinstance(event, events.Ended):
            self.ended = event
        await self.inbox.put(event)

    # -- how it ends ---------------------------------------------------------------------------------------------

    async def _failure_of_status(self) -> Callable[[], Exception] | None:
        status = await self._first_status.settled()
        if status is not None and not status.ok:
            return status.error
        if not self.opened.done():
            return lambda: errors.InternalError("the stream ended before the session was opened", code="OK")
        return None

    def _finish(self, failure: Callable[[], Exception] | None) -> None:
        self.finished = True
        self._failure = failure
        if not self.opened.done() and failure is not None:
            self.opened.set_exception(self._error())
        self.outbox.close(self._error, discard=True)
        self.inbox.close()
        self._wake.set()

    def _error(self) -> Exception:
        """What a send raises now that the call is over; made for each raise, so that no traceback grows."""
        if self._failure is not None:
            self._failure_seen = True
            return self._failure()
        why = f"the session has ended: {self.ended.reason}" if self.ended else "the stream has ended"
        return errors.SessionEnded(why, code="FAILED_PRECONDITION", reason="SESSION_ENDED")

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        """A fault of this client must reach the application, not end as a silent stream."""
        if not task.cancelled() and (fault := task.exception()) is not None:
            message = f"the client failed: {fault!r}"
            self._finish(lambda: errors.InternalError(message))
            self._call.cancel()
