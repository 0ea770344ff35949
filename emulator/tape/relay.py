"""One relayed WebSocket: every frame of either side goes to the other, and what went is put on the tape."""

import asyncio
from collections.abc import Callable

import structlog
from aiohttp import ClientError, WSMsgType

from emulator.tape.captured import NO_CODE, Captured, Close, Frame, Lost, Note
from emulator.tape.sides import Side

log = structlog.get_logger(__name__)

GOING_AWAY = (1001, "The recorder is stopping.")
RELAYED = frozenset({WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG})
"""What passes as it came."""


class Relay:
    """``run`` returns when both sides are done with, whichever ended it. What it holds is a frame a direction.

    A frame is read only when the one before it has been sent, so either side's reading slows the other's sending.
    Pings are relayed too: only the client and the endpoint know how long they wait for each other.
    """

    def __init__(
        self, number: int, client: Side, upstream: Side, *, put: Callable[[Captured], None], began: float, limit: float
    ) -> None:
        self._number = number
        self._client = client
        self._upstream = upstream
        self._put = put
        self._began = began
        self._limit = limit
        """Seconds that a side has to answer a close frame, and again to take what is buffered for it."""
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Tell both sides that the recorder goes away."""
        self._stopped.set()

    async def run(self) -> None:
        """Relay until both sides have closed, or one has gone without closing."""
        pumps = {asyncio.create_task(self._pump(from_client), name="relay") for from_client in (True, False)}
        stopped = asyncio.create_task(self._stopped.wait(), name="relay stop")
        try:
            done, _ = await asyncio.wait({*pumps, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if stopped in done:
                await self._go_away()
                await asyncio.wait(pumps, timeout=self._limit)
            elif all(pump.result() for pump in done):
                await asyncio.wait(pumps, timeout=self._limit)
        finally:
            for task in (*pumps, stopped):
                task.cancel()
            await asyncio.gather(*pumps, stopped, return_exceptions=True)
            for side in (self._client, self._upstream):
                side.hang_up(self._limit)

    async def _pump(self, from_client: bool) -> bool:
        """Whether the other direction may have something to say still."""
        source, target = (self._client, self._upstream) if from_client else (self._upstream, self._client)
        number = self._number
        try:
            while True:
                message = await source.socket.receive()
                t = self._now()
                if self._stopped.is_set():
                    # Read on, for the answer to our close frame: closing on unread data would reset the connection.
                    if message.type not in RELAYED:
                        return False
                elif message.type in RELAYED:
                    data = bytes(message.data)
                    self._put(Frame(number, t, from_client, int(message.type), data))
                    await target.send(data, message.type)
                elif message.type is WSMsgType.CLOSE:
                    code, reason = message.data or NO_CODE, message.extra or ""
                    self._put(Close(number, t, from_client, code, reason))
                    await target.close_frame(code, reason)
                    return True
                else:
                    self._put(Lost(number, t, from_client, str(message.data or "the connection was lost")))
                    return False
        except (ClientError, ConnectionError) as error:
            # The target has gone; what it sent before, its close frame among it, is still on its way to the source.
            log.debug("relayed to nobody", connection=number, from_client=from_client, error=str(error))
            return True

    async def _go_away(self) -> None:
        self._put(Note("the recorder was stopped", {"t": round(self._now(), 6)}, self._number))
        await asyncio.gather(self._dismiss(self._client), self._dismiss(self._upstream))

    async def _dismiss(self, side: Side) -> None:
        try:
            async with asyncio.timeout(self._limit):
                await side.close_frame(*GOING_AWAY)
        except (ClientError, ConnectionError, TimeoutError) as error:
            log.debug("gone before it was told", connection=self._number, error=str(error))

    def _now(self) -> float:
        return asyncio.get_running_loop().time() - self._began
