"""The streams of a session, one after the other: opens the first, puts another in the place of one that is lost."""

import asyncio
import copy
from contextlib import suppress
from datetime import timedelta

from parley import errors, events
from parley._downlink import Downlink
from parley._retry import Retry
from parley._stream import Dial, Stream
from parley._uplink import Uplink
from parley.v1 import live_pb2 as pb

ATTEMPT = 10.0
"""Seconds that a gateway may take to attach a session that is there; then the next one is asked."""
LAST_ATTEMPT = 1.0
"""Seconds that it has at least, also where the outage's limit is nearer."""


class Streams:
    """Holds a session until it is over, or cannot be had any more.

    At most one stream is attached. While its gateway drains, another one may be opening beside it.
    """

    def __init__(
        self,
        dial: Dial,
        opening: pb.Open,
        *,
        rate: int,
        after: int,
        open_timeout: timedelta,
        max_outage: timedelta | None,
    ) -> None:
        """`dial` goes to another address each time, where there is one. The rest is as in `connect`."""
        self._dial = dial
        self._opening = opening
        self._loop = asyncio.get_running_loop()
        self._open_timeout = open_timeout.total_seconds()
        self._open_limit = self._loop.time() + self._open_timeout
        outage = None if max_outage is None else max_outage.total_seconds()
        self._retry = Retry(self._loop.time(), open_timeout=self._open_timeout, max_outage=outage)
        self.uplink = Uplink(rate=rate, on_ready=self._wake)
        self.downlink = Downlink(after=after)
        self.opened: events.Opened | None = None
        """What the newest stream was told."""
        self.resumed = 0
        """How often another stream took the place of one before it."""
        self.finished = False
        """The session is over, or lost to this caller."""
        self._current: Stream | None = None
        self._opening_stream: Stream | None = None
        self._live: set[Stream] = set()
        self._all_left = asyncio.Event()
        self._holder: asyncio.Task[None] | None = None
        self._failure: errors.ParleyError | None = None
        self._failure_seen = False

    # -- life ----------------------------------------------------------------------------------------------------

    async def open(self, addresses: int) -> None:
        """Gets the first stream, with as many tries as it takes. Raises the typed error of the last one that had time.

        Where there are several addresses, the first try leaves time for another.
        """
        before: errors.ParleyError | None = None
        while True:
            left = self._open_limit - self._loop.time()
            try:
                await self._try(left / 2 if addresses > 1 else left)
                break
            except errors.ParleyError as error:
                if self._loop.time() >= self._open_limit:
                    late = f"the service did not open the session within {self._open_timeout:g} s"
                    raise before or errors.DeadlineExceeded(late, code="DEADLINE_EXCEEDED") from None
                before = error
                delay = self._retry.failed(error, self._loop.time())
                if delay is None:
                    raise
            await asyncio.sleep(delay)
        self._holder = self._loop.create_task(self._hold(), name="parley-hold")
        self._holder.add_done_callback(self._on_holder_done)

    async def abort(self) -> None:
        """Cancels everything and waits for it; safe to repeat. Whoever still sends or listens is told so."""
        if self._holder is not None:
            self._holder.cancel()
            await asyncio.wait([self._holder])
        for stream in tuple(self._live):
            await self._drop(stream)
        if not self.finished:
            self._finish(None)

    def took(self, event: events.Event) -> None:
        """The application took an event: it will be acked."""
        seconds = event.seconds if isinstance(event, events.Audio) else 0.0
        self.downlink.acks.consumed(event.seq, seconds, self._loop.time())
        if self._current is not None:
            self._current.acks_changed()

    async def half_close(self) -> None:
        """What is queued now is the last. Returns when all of it has left, or the session is over."""
        self.uplink.half_closing = True
        self._wake()
        await self._all_left.wait()

    def raise_failure(self, *, unseen: bool = False) -> None:
        """Raises the error that the session is lost with, if it is; with `unseen`, only the first time it is raised."""
        if self._failure is not None and not (unseen and self._failure_seen):
            raise self._error()

    # -- one stream ----------------------------------------------------------------------------------------------

    async def _try(self, limit: float) -> None:
        """One call, up to `opened`. Raises the typed error that it ended with, or Unavailable after `limit` s."""
        stream = Stream(
            self._dial,
            self._open(),
            self.uplink,
            self.downlink,
            on_opened=self._on_opened,
            on_all_left=self._all_left.set,
        )
        self._live.add(stream)
        self._opening_stream = stream
        try:
            async with asyncio.timeout(limit):
                await stream.open()
        except TimeoutError:
            if self._current is not stream:
                raise errors.Unavailable(f"no gateway answered within {limit:g} s", code="UNAVAILABLE") from None
        finally:
            self._opening_stream = None
            if self._current is not stream:
                await self._drop(stream)

    def _open(self) -> pb.Open:
        if self.opened is None:
            return self._opening
        resume = pb.Resume(
            session_id=self.opened.session_id,
            resume_token=self.opened.resume_token,
            last_received_seq=self.downlink.received,
        )
        return pb.Open(resume=resume, traceparent=self._opening.traceparent)

    def _on_opened(self, stream: Stream, opened: events.Opened) -> None:
        """Between two responses the session moves from one stream to the other."""
        if stream is not self._opening_stream:
            stream.detach()  # it was given up at this very moment
            return
        now = self._loop.time()
        old, self._current = self._current, stream
        self.opened = opened
        self.downlink.attach()
        replay = self.uplink.attach(opened.next_uplink_seq or 1, now)
        self.uplink.outbox.set_offline(offline=False)
        self._retry.opened(opened.resume_window.total_seconds(), now)
        if old is None:
            self.downlink.take(opened)
            return
        old.detach()
        self.resumed += 1
        gap = timedelta(seconds=now - (now if old.over_at is None else old.over_at))
        self.downlink.inbox.tell(events.StreamResumed(0, gap, replay.replayed, replay.dropped))

    async def _drop(self, stream: Stream) -> None:
        await stream.abort()
        self._live.discard(stream)

    def _wake(self) -> None:
        if self._current is not None:
            self._current.wake()

    # -- one after the other -------------------------------------------------------------------------------------

    async def _hold(self) -> None:
        while (old := self._current) is not None and not self.finished:
            await old.until(old.is_leaving)
            taken_over = None
            if not old.over:
                taken_over = await self._hand_over(old)
            if self._current is old:
                await self._resume(old, taken_over)
            if self._current is not old:
                await self._drop(old)

    async def _hand_over(self, old: Stream) -> errors.ParleyError | None:
        """Moves the session off a gateway that drains, which serves it meanwhile, unless that one is over before.

        Returns the error of a try of which the service said nothing: that one may have taken the session over.
        """
        unanswered = None
        delay: float | None = None
        if self._retry.enabled:
            delay = self._retry.draining(self._loop.time(), self._mark())
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(delay):
                    await old.until(old.is_over)
            if old.over:
                return unanswered
            try:
                await self._try(ATTEMPT)
            except errors.ParleyError as error:
                unanswered = unanswered if error.reason else error
                delay = self._retry.beside(error)
            else:
                return None

    async def _resume(self, old: Stream, taken_over: errors.ParleyError | None) -> None:
        """Gets another stream in the place of one that is over, or ends the session with the reason why not."""
        error = old.failure
        if isinstance(error, errors.Superseded) and taken_over is not None:
            error = taken_over  # by our own try, of which nobody told us that it was taken
        delay = None
        now = self._loop.time()
        if error is not None and self.downlink.ended is None:
            delay = self._retry.lost(error, now, self._mark())
        tried = delay is not None
        if error is not None and tried:
            self.uplink.outbox.set_offline(offline=True)
            left = timedelta(seconds=self._retry.left(now))
            self.downlink.inbox.tell(events.StreamLost(0, copy.copy(error), left))
        while delay is not None:
            await asyncio.sleep(delay)
            remaining = self._retry.left(self._loop.time())
            try:
                await self._try(min(ATTEMPT, max(LAST_ATTEMPT, remaining)))
            except errors.ParleyError as refused:
                error = refused
                delay = self._retry.failed(refused, self._loop.time())
            else:
                return
        self._finish(self._given_up(error) if error is not None and tried else error)

    def _mark(self) -> tuple[int, int, int]:
        """Changes as the conversation goes on."""
        next_uplink_seq = self.opened.next_uplink_seq if self.opened else 0
        return self.downlink.received, self.uplink.ring.acked_seq, next_uplink_seq

    # -- how it ends ---------------------------------------------------------------------------------------------

    def _finish(self, error: errors.ParleyError | None) -> None:
        gone = isinstance(error, errors.SessionEnded) or (error is not None and error.reason == "SESSION_UNKNOWN")
        if gone and self.uplink.end_left:
            error = None  # `end` did its work; only the stream that would have said so was lost
        self.finished = True
        self._failure = error
        self.uplink.outbox.close(self._error, discard=True)
        self._all_left.set()
        self.downlink.inbox.close()

    def _given_up(self, error: errors.ParleyError) -> errors.ParleyError:
        """The error of the last try, saying that it is the last, and what is lost with it."""
        seconds = self._loop.time() - self._retry.began
        message = f"{error.message}; given up after {seconds:.1f} s (tries: {self._retry.tries})"
        if undelivered := self.uplink.undelivered():
            message += f"; not acknowledged: {undelivered}"
        error = copy.copy(error)
        error.message = message
        error.args = (message,)
        return error

    def _error(self) -> errors.ParleyError:
        """What is raised now that it is over; a copy for each raise, so that no traceback grows."""
        if self._failure is not None:
            self._failure_seen = True
            return copy.copy(self._failure)
        ended = self.downlink.ended
        why = f"the session has ended: {ended.reason}" if ended else "the stream has ended"
        return errors.SessionEnded(why, code="FAILED_PRECONDITION", reason="SESSION_ENDED")

    def _on_holder_done(self, task: asyncio.Task[None]) -> None:
        """A fault of this client must reach the application, not end as a silent stream."""
        if not task.cancelled() and (fault := task.exception()) is not None:
            self._finish(errors.InternalError(f"the client failed: {fault!r}"))
