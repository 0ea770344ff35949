"""One WebSocket: reads frames, performs what the link decides, and leaves nothing behind."""

import asyncio
import math
import ssl
from collections.abc import Callable

import structlog
from aiohttp import ClientError, WSMsgType, web

from emulator import texts
from emulator.actions import Action, Close, ForgetHandles, Guess, IssueHandle, Listen, Note, Reset, Send, SendRaw, Wire
from emulator.api.protocol import Decoder, Event, Setup, encode
from emulator.endpoint.admission import Admit, Admitted
from emulator.endpoint.inbox import Inbox
from emulator.endpoint.limits import Counters, Limits
from emulator.endpoint.link import Link
from emulator.endpoint.outbox import Outbox
from emulator.endpoint.wire import WireControl
from emulator.errors import Refusal, reason_bytes
from emulator.faults.plan import FaultPlan
from emulator.hearing.ears import Ears
from emulator.memory import let_go
from emulator.processes.ownership import Elsewhere
from emulator.session.handles import HandleStore

log = structlog.get_logger(__name__)


class Connection:
    """Serves one client from its setup to its close.

    The link is asked from the loop only, never concurrently. Everything that runs beside the reader (the writer, one
    task for each utterance that is being understood, one timer) is ended with it.
    """

    def __init__(
        self,
        *,
        socket: web.WebSocketResponse,
        transport: asyncio.Transport | None,
        decoder: Decoder,
        admit: Admit,
        faults: FaultPlan,
        text_frames: bool,
        handles: HandleStore,
        ears: Ears,
        clock: Callable[[], float],
        limits: Limits,
        counters: Counters,
    ) -> None:
        self._socket = socket
        self._transport = transport
        self._admit = admit
        self._faults = faults
        self._opcode = WSMsgType.TEXT if text_frames else WSMsgType.BINARY
        self._handles = handles
        self._ears = ears
        self._clock = clock
        self._limits = limits
        self._counters = counters
        self._outbox = Outbox(limits.outbox_bytes, socket, transport)
        self._wire = WireControl(transport, self._outbox, pong=self._pong, frozen_limit=limits.frozen_limit)
        self._inbox = Inbox(socket, self._wire, decoder)
        self._timer: asyncio.TimerHandle | None = None
        self._ticks_at = math.inf
        """What the timer is set for, on the clock."""
        self._abortion: asyncio.TimerHandle | None = None
        self._reader: asyncio.Task[None]
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening: asyncio.Task[None] | None = None
        """To the latest utterance."""
        self._admitted: Admitted | None = None
        self._ending: Refusal | None = None
        self.elsewhere: int | None = None
        """The process that has to serve it instead; this one has said nothing yet."""
        self._reset = False
        """Whether an end without a close frame is a TCP reset."""
        self._ended = asyncio.Event()
        faults.wake = self._set_timer

    async def serve(self) -> None:
        """Until either side closes."""
        self._counters.opened += 1
        self._reader = asyncio.create_task(self._read(), name="connection reader")
        writer = self._spawn(self._write(), "writer")
        try:
            self._decide(lambda: self._faults.happened("connect", self._clock()))
            await asyncio.wait((self._reader,))
            if not self._reader.cancelled() and (error := self._reader.exception()) is not None:
                raise error
        except (ClientError, ConnectionError, ssl.SSLError) as error:
            log.debug("connection lost", error=str(error))
        finally:
            self._reader.cancel()
            if self._admitted is not None:
                # Before anything waits: a client that has closed may resume at once.
                self._admitted.ended(self._clock())
            if self._timer is not None:
                self._timer.cancel()
            try:
                if self._ending is not None:
                    await writer
            finally:
                await self._cleanup()

    def end(self, refusal: Refusal) -> None:
        """Close with a code, after what has been decided is sent; nothing more is read."""
        if self._ending is not None or self.elsewhere is not None:
            return
        self._counters.refused += 1
        if self._outbox.held:
            # What is not written to cannot be told anything.
            self._cut_off(refusal.text)
            return
        # The error itself was raised in a frame that holds this connection.
        self._ending = refusal.afresh()
        self._outbox.finish()
        self._wire.close()
        self._abort_later()

    def _displaced(self, refusal: Refusal) -> None:
        """Another connection takes the session over, from how it is now."""
        assert self._admitted is not None
        self._admitted.ended(self._clock())
        self.end(refusal)

    @property
    def unsent(self) -> int:
        """Messages that were decided to be sent and were not."""
        return self._outbox.messages

    async def wait_ended(self) -> None:
        """Until nothing of it is left."""
        await self._ended.wait()

    async def _cleanup(self) -> None:
        if self._abortion is not None:
            self._abortion.cancel()
        self._faults.ended()
        self._wire.close()
        for task in self._tasks:
            task.cancel()
        # The reader too: serving may have been cancelled while it read, and nobody else waits for it.
        await asyncio.gather(self._reader, *self._tasks, return_exceptions=True)
        # Where one was cancelled it keeps the frames that it was in, and they keep this connection.
        del self._reader
        self._listening = None
        if self.elsewhere is not None:
            self._ended.set()
            return
        if self._ending is None or self._transport is None or self._transport.is_closing():
            # Where the client closed, it may not read the answer any more; what is cut off is only marked as closed.
            await self._socket.close(drain=False)
        let_go(self._socket.exception())
        self._wire.abort_unsent(self._limits.close_timeout)
        if self._admitted is not None:
            code = self._ending.code if self._ending else self._socket.close_code
            self._admitted.record.closed(code, at=self._clock())
        self._ended.set()

    def _spawn(self, work: "asyncio._CoroutineLike[None]", name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=f"connection {name}")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        """A fault of the emulator's own: the client gets what the service would say."""
        log.error("connection failed", exc_info=error)
        self.end(texts.STILL_OPEN.refusal())

    async def _read(self) -> None:
        try:
            first = await self._next(first_within=self._limits.setup_timeout)
        except TimeoutError:
            self.end(texts.SETUP_LATE.refusal())
            return
        if first is None:
            return
        try:
            if not isinstance(first, Setup):
                raise texts.SETUP_FIRST.refusal()
            admitted = self._admit(first)
        except Elsewhere as elsewhere:
            self._counters.opened -= 1
            self.elsewhere = elsewhere.owner
            return
        except Refusal as refusal:
            self.end(refusal)
            return
        self._admitted = admitted
        admitted.session.displace = self._displaced
        self._decide(lambda: admitted.link.start(self._clock()))
        while (event := await self._next()) is not None:
            self._decide(lambda event=event: admitted.link.apply(event, self._clock()))  # type: ignore[misc]

    async def _next(self, first_within: float | None = None) -> Event | None:
        """The next event; None when the connection ends."""
        if self._ending is not None:
            return None
        try:
            event = await (self._inbox.next() if first_within is None else self._inbox.first(first_within))
        except Refusal as refusal:
            self.end(refusal)
            return None
        return event if self._ending is None else None

    def _decide(self, decision: Callable[[], list[Action]]) -> None:
        """Ask the link, do what it says, and set the timer for what it wants next."""
        try:
            self._perform(decision())
        except Exception as error:  # noqa: BLE001 - some decisions run in a timer, with nobody above to see this
            self._failed(error)
            return
        self._outbox.flush()
        self._set_timer()

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Send(message, frame):
                    self._send(self._opcode, encode(message) if frame is None else frame)
                case SendRaw(str() as text):
                    self._send(WSMsgType.TEXT, text.encode())
                case SendRaw(bytes() as data):
                    self._send(WSMsgType.BINARY, data)
                case Listen(number, pcm):
                    self._listening = self._spawn(self._listen(number, pcm, self._listening), "listening")
                case Guess(number, pcm):
                    self._spawn(self._guess(number, pcm), "guessing")
                case ForgetHandles(newest_only):
                    self._handles.forget(self._faults.conversation, newest_only=newest_only)
                case Close(refusal):
                    self.end(refusal)
                case Reset(orderly):
                    self._break_off(reset=not orderly)
                case Wire():
                    self._rewire(action)
                case Note() | IssueHandle():
                    # A handle that no part has made a message of was not asked for.
                    pass

    @property
    def _decider(self) -> Link | FaultPlan:
        """Whoever time matters to: before the setup only faults."""
        return self._faults if self._admitted is None else self._admitted.link

    def _set_timer(self) -> None:
        deadline = self._decider.deadline if self._ending is None else None
        if deadline is None or deadline >= self._ticks_at:
            # Most deadlines are put off by the next message: a tick that comes too early costs less than a new timer
            # for each.
            return
        if self._timer is not None:
            self._timer.cancel()
        self._ticks_at = deadline
        delay = max(0.0, deadline - self._clock())
        self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer, self._ticks_at = None, math.inf
        if self._ending is None:
            self._decide(lambda: self._decider.tick(self._clock()))

    async def _listen(self, number: int, pcm: bytes, before: asyncio.Task[None] | None) -> None:
        """``before``: to the utterance before it, which goes first however long it takes."""
        assert self._admitted is not None
        link = self._admitted.link
        text = await self._ears.hear(self._admitted.grammar, pcm, free=self._admitted.free)
        if before is not None and not before.done():
            await asyncio.wait((before,))
        if self._ending is not None:
            # The session may be another connection's by now.
            return
        self._decide(lambda: link.heard(number, text, self._clock()))

    async def _guess(self, number: int, pcm: bytes) -> None:
        assert self._admitted is not None
        link = self._admitted.link
        text = await self._ears.guess(self._admitted.grammar, pcm, free=self._admitted.free)
        if self._ending is not None:
            return
        self._decide(lambda: link.guessed(number, text, self._clock()))

    def _send(self, opcode: WSMsgType, frame: bytes) -> None:
        if self._ending is not None or self._outbox.put(opcode, frame):
            return
        # The same decision may have filled it, and had no chance to write.
        self._outbox.flush()
        if not self._outbox.put(opcode, frame):
            self._drop()

    def _pong(self, payload: bytes) -> None:
        self._send(WSMsgType.PONG, payload)
        self._outbox.flush()

    def _drop(self) -> None:
        """The client does not read: give it up rather than keep more for it."""
        self._counters.dropped += 1
        self._counters.dropped_frames += len(self._outbox) + self._outbox.lost_frames
        self._counters.dropped_bytes += self._outbox.size + self._outbox.lost_bytes
        log.warning("client does not read", bytes=self._outbox.size)
        self._cut_off("client does not read")

    def _break_off(self, *, reset: bool) -> None:
        """The end without a close frame, after what has been decided is sent."""
        self._reset = reset
        if self._outbox.held:
            self._cut_off("reset")
        elif self._ending is None:
            self._ending = Refusal(1006, "reset")
            self._outbox.finish()
            self._abort_later()

    def _cut_off(self, why: str) -> None:
        """The same at once: what is not sent is lost."""
        self._ending = Refusal(1006, why)
        self._outbox.discard()
        self._wire.close()
        self._wire.abort(reset=self._reset)

    def _abort_later(self) -> None:
        # A client that does not read must not keep its connection open by that.
        loop = asyncio.get_running_loop()
        self._abortion = loop.call_later(2 * self._limits.close_timeout, self._wire.abort)

    def _rewire(self, wire: Wire) -> None:
        self._wire.apply(wire)
        if wire.writing and self._outbox.lost_frames:
            # It cannot go on with a gap.
            self._drop()

    async def _write(self) -> None:
        """Send what is decided, then the close frame when it is wanted."""
        if not await self._outbox.run():
            return
        assert self._ending is not None
        if self._ending.code == 1006:
            self._wire.close()
            self._wire.abort(reset=self._reset)
        else:
            # Whoever reads would take the client's answer, and the socket would not wait for it: the connection would
            # be cut behind the close frame, which not every client has read by then.
            self._reader.cancel()
            await asyncio.wait((self._reader,))
            await self._socket.close(code=self._ending.code, message=reason_bytes(self._ending.text))
