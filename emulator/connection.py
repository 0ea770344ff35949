"""One WebSocket: reads frames, performs what the link decides, and leaves nothing behind."""

import asyncio
import ssl
import struct
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from socket import SO_LINGER, SOL_SOCKET

import structlog
from aiohttp import ClientError, WSMsgType, web

from emulator.actions import Action, Close, IssueHandle, Listen, Note, Reset, Send, SendRaw, Wire
from emulator.admission import Admit, Admitted
from emulator.errors import Refusal, invalid, reason_bytes
from emulator.handles import HandleStore
from emulator.hearing.ears import Ears
from emulator.protocol import Decoder, Event, Setup, encode

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Limits:
    """Bounds of one connection; times in seconds."""

    setup_timeout: float
    close_timeout: float
    """For what is decided to be sent, and again for the client to answer the close frame."""
    outbox_bytes: int


@dataclass
class Counters:
    """Of all connections since the start."""

    opened: int = 0
    refused: int = 0
    """Closed by the emulator with a code."""
    dropped: int = 0
    """Clients that did not read."""
    dropped_frames: int = 0
    dropped_bytes: int = 0


@dataclass
class _Outbox:
    """Frames that wait for the socket; the writer task empties it."""

    frames: deque[str | bytes] = field(default_factory=deque)
    size: int = 0
    """Bytes."""
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, frame: str | bytes) -> None:
        self.frames.append(frame)
        self.size += len(frame)
        self.ready.set()


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
        handles: HandleStore,
        ears: Ears,
        clock: Callable[[], float],
        limits: Limits,
        counters: Counters,
    ) -> None:
        self._socket = socket
        self._transport = transport
        self._decoder = decoder
        self._admit = admit
        self._handles = handles
        self._ears = ears
        self._clock = clock
        self._limits = limits
        self._counters = counters
        self._outbox = _Outbox()
        self._timer: asyncio.TimerHandle | None = None
        self._abortion: asyncio.TimerHandle | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._admitted: Admitted | None = None
        self._ending: Refusal | None = None
        self._ended = asyncio.Event()

    async def serve(self) -> None:
        """Until either side closes."""
        self._counters.opened += 1
        writer = self._spawn(self._write(), "writer")
        try:
            await self._read()
        except (ClientError, ConnectionError, ssl.SSLError) as error:
            log.debug("connection lost", error=str(error))
        finally:
            if self._admitted is not None:
                # Before anything waits: a client that has closed may resume at once.
                self._admitted.session.open = False
            if self._timer is not None:
                self._timer.cancel()
            try:
                if self._ending is not None:
                    await writer
            finally:
                await self._cleanup()

    def end(self, refusal: Refusal) -> None:
        """Close with a code, after what has been decided is sent; nothing more is read."""
        if self._ending is None:
            self._ending = refusal
            self._counters.refused += 1
            self._outbox.ready.set()
            # A client that does not read must not keep its connection open by that.
            loop = asyncio.get_running_loop()
            self._abortion = loop.call_later(2 * self._limits.close_timeout, self._abort)

    async def wait_ended(self) -> None:
        """Until nothing of it is left."""
        await self._ended.wait()

    async def _cleanup(self) -> None:
        if self._abortion is not None:
            self._abortion.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._admitted is not None:
            facts = self._admitted.record.facts
            facts.closed = round(self._clock(), 3)
            facts.close_code = self._ending.code if self._ending else self._socket.close_code
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
        self.end(Refusal(1011, "Internal error encountered."))

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(self._limits.setup_timeout):
                first = await self._next()
        except TimeoutError:
            self.end(Refusal(1008, "Setup was not received in time."))
            return
        if first is None:
            return
        try:
            if not isinstance(first, Setup):
                raise invalid("setup must be the first message and only the first")
            admitted = self._admit(first)
        except Refusal as refusal:
            self.end(refusal)
            return
        self._admitted = admitted
        self._decide(lambda: admitted.link.start(self._clock()))
        while (event := await self._next()) is not None:
            self._decide(lambda event=event: admitted.link.apply(event, self._clock()))  # type: ignore[misc]

    async def _next(self) -> Event | None:
        """The next event; None when the connection ends."""
        while self._ending is None:
            message = await self._socket.receive()
            if self._ending is not None:
                break
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                try:
                    return self._decoder.decode(message.data)
                except Refusal as refusal:
                    self.end(refusal)
            elif message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR):
                break
        return None

    def _decide(self, decision: Callable[[], list[Action]]) -> None:
        """Ask the link, do what it says, and set the timer for what it wants next."""
        try:
            actions = decision()
        except Exception as error:  # noqa: BLE001 - some decisions run in a timer, with nobody above to see this
            self._failed(error)
            return
        for action in actions:
            match action:
                case Send(message):
                    self._send(encode(message))
                case SendRaw(frame):
                    self._send(frame)
                case Listen(number, pcm):
                    self._spawn(self._listen(number, pcm), "listening")
                case IssueHandle():
                    self._issue(action)
                case Close(refusal):
                    self.end(refusal)
                case Reset():
                    self._reset()
                case Wire():
                    self._rewire(action)
                case Note():
                    pass
        self._set_timer()

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._admitted is None or self._ending is not None:
            return
        if (deadline := self._admitted.link.deadline) is not None:
            delay = max(0.0, deadline - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer = None
        assert self._admitted is not None
        link = self._admitted.link
        self._decide(lambda: link.tick(self._clock()))

    async def _listen(self, number: int, pcm: bytes) -> None:
        assert self._admitted is not None
        link = self._admitted.link
        text = await self._ears.hear(self._admitted.grammar, pcm)
        self._decide(lambda: link.heard(number, text, self._clock()))

    def _issue(self, action: IssueHandle) -> None:
        assert self._admitted is not None
        now = self._clock()
        handle = self._handles.issue(
            self._admitted.session, action.snapshot, now, link=self._admitted.record.facts.index
        )
        self._admitted.record.event("handle_issued", at=now)
        self._send(encode({"sessionResumptionUpdate": {"newHandle": handle, "resumable": True}}))

    def _send(self, frame: str | bytes) -> None:
        if self._ending is not None:
            return
        if self._outbox.size + len(frame) > self._limits.outbox_bytes:
            self._drop()
            return
        self._outbox.put(frame)

    def _drop(self) -> None:
        """The client does not read: give it up rather than keep more for it."""
        self._counters.dropped += 1
        self._counters.dropped_frames += len(self._outbox.frames)
        self._counters.dropped_bytes += self._outbox.size
        log.warning("client does not read", bytes=self._outbox.size)
        self._ending = Refusal(1006, "client does not read")
        self._outbox.ready.set()
        self._abort()

    def _reset(self) -> None:
        """A TCP reset: what the network does, not the service."""
        self._ending = Refusal(1006, "reset")
        self._outbox.ready.set()
        if self._transport is not None and (socket := self._transport.get_extra_info("socket")) is not None:
            # No lingering: closing discards what is unsent and sends RST.
            socket.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self._abort()

    def _rewire(self, wire: Wire) -> None:
        raise NotImplementedError(wire)

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    async def _write(self) -> None:
        """Send what is in the outbox, then the close frame when it is wanted."""
        outbox = self._outbox
        while True:
            await outbox.ready.wait()
            outbox.ready.clear()
            while outbox.frames and not self._aborted:
                frame = outbox.frames.popleft()
                try:
                    if isinstance(frame, str):
                        await self._socket.send_str(frame)
                    else:
                        await self._socket.send_bytes(frame)
                except (ClientError, ConnectionError, RuntimeError):
                    # The reader learns of the lost connection by itself.
                    return
                outbox.size -= len(frame)
            if self._ending is not None:
                if not self._aborted:
                    await self._socket.close(code=self._ending.code, message=reason_bytes(self._ending.text))
                return

    @property
    def _aborted(self) -> bool:
        return self._ending is not None and self._ending.code == 1006
