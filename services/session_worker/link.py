"""One link: a WebSocket to Gemini Live, opened by the unmodified SDK."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, cast

import structlog
import websockets.exceptions
from google import genai
from google.genai import errors as genai_errors
from google.genai import types
from google.genai.live import AsyncSession
from websockets.http11 import Response

from services.session_worker import closes, events, wire
from services.session_worker.closes import LinkError, LinkFailure, Where
from services.session_worker.round_trips import RoundTrips
from services.session_worker.settings import WorkerSettings

log = structlog.get_logger()

_MAX_FRAME = 8 * 1024 * 1024
_CLOSE_GRACE = 0.5
"""Seconds that a closing handshake may take before the transport is aborted (a resume needs the old socket gone)."""
_KEEPALIVE = 20.0
"""Seconds between pings of the library: proxies and NAT forget what is idle, some of them within a minute."""


_MAX_TEXT = 500
"""Characters of a library's message that are passed on: it may quote a whole frame."""
_MAX_RETRY_AFTER = 3600.0


@dataclass
class LinkClosedError(Exception):
    """The link is gone."""

    code: int
    """WebSocket close code; 1006 when there was none."""
    reason: str

    def __str__(self) -> str:
        return f"{self.code} {self.reason}".strip()

    @property
    def failure(self) -> LinkFailure:
        """The same for the table of `closes`."""
        return LinkFailure(Where.LINK, self.code, self.reason)


class Dialer:
    """Opens links. One a process: the SDK's client holds a TLS context and connection pools."""

    def __init__(self, settings: WorkerSettings, may_act: Callable[[], bool] = lambda: True) -> None:
        """`may_act`: asked each time before something is dialled, sent, or received."""
        self._may_act = may_act
        self.round_trips = RoundTrips()
        """Of every link."""
        self._fast = settings.link_codec == "fast"
        if self._fast:
            wire.check_sdk_version()
        tls = ssl.create_default_context(cafile=settings.gemini_ca_file or None)
        options = types.HttpOptions(
            # Vertex numbers its versions otherwise; the SDK knows the one that it is made for.
            api_version=settings.gemini_api_version if settings.backend == "developer" else None,
            base_url=settings.gemini_base_url or None,
            # Compression costs CPU and wins nothing on base64 audio. Google's pongs come up to 30 s late, so no ping of
            # the library may end a link: liveness is judged by traffic.
            async_client_args={
                "ssl": tls,
                "compression": None,
                "ping_interval": _KEEPALIVE,
                "ping_timeout": None,
                "max_size": _MAX_FRAME,
                "open_timeout": settings.dial_timeout.total_seconds(),
                "close_timeout": _CLOSE_GRACE,
            },
        )
        self._timeout = settings.dial_timeout.total_seconds()
        self._between = 1 / settings.rotations_per_second
        self._next_slot = 0.0
        self._client = genai.Client(
            api_key=settings.gemini_api_key.get_secret_value() or "unset",
            vertexai=settings.backend == "vertex",
            http_options=options,
        )

    async def dial(self, model: str, config: types.LiveConnectConfig, input_rate: int) -> Link:
        """Connect and set up. LinkError (BACKEND_*) when the endpoint refuses or does not answer in time."""
        stack = AsyncExitStack()
        try:
            _check(self._may_act)
            async with asyncio.timeout(self._timeout):
                session = await stack.enter_async_context(self._client.aio.live.connect(model=model, config=config))
            if session.setup_complete is None:
                raise closes.link_error(LinkFailure(Where.ANSWER))
        except BaseException as error:
            with contextlib.suppress(Exception):
                await stack.aclose()
            if isinstance(error, LinkError) or not isinstance(error, Exception):
                raise
            raise closes.link_error(_dial_failure(error, self._timeout)) from error
        return Link(session, stack, input_rate, self._may_act, fast=self._fast)

    def take_slot(self, now: float) -> bool:
        """Whether it is one's turn to replace a link that works: links that were opened together also age together.

        `now`: monotonic seconds. To be asked again where it is not.
        """
        if now < self._next_slot:
            return False
        self._next_slot = now + self._between
        return True

    async def slot(self) -> None:
        """Wait for one's turn to open a link where there is none."""
        now = time.monotonic()
        self._next_slot = max(self._next_slot, now)
        wait, self._next_slot = self._next_slot - now, self._next_slot + self._between
        await asyncio.sleep(wait)

    async def close(self) -> None:
        """Close the SDK's pools."""
        with contextlib.suppress(Exception):
            await self._client.aio.aclose()


def _dial_failure(error: Exception, timeout: float) -> LinkFailure:
    """Why a link could not be opened."""
    text = f"{type(error).__name__}: {error}"[:_MAX_TEXT]
    match error:
        case TimeoutError():
            return LinkFailure(Where.TIMEOUT, text=f"{timeout:g} s")
        case websockets.exceptions.InvalidStatus(response=response):
            return LinkFailure(Where.UPGRADE, response.status_code, retry_after=_retry_after(response))
        case genai_errors.APIError():
            return LinkFailure(Where.SETUP, error.code, str(error.details or ""))
        case websockets.exceptions.ConnectionClosed():
            # The close overtook the set-up: the SDK was still sending it.
            closed = _closed(error)
            return LinkFailure(Where.SETUP, closed.code, closed.reason)
        case LinkClosedError():
            return error.failure
        case OSError() | websockets.exceptions.WebSocketException():
            return LinkFailure(Where.CONNECT, text=text)
        case _:
            return LinkFailure(Where.SDK, text=text)


def _check(may_act: Callable[[], bool]) -> None:
    if not may_act():
        raise LinkClosedError(1006, "the worker is out of touch with nats, and may not speak for its sessions")


def _retry_after(response: Response) -> float | None:
    """Seconds of `Retry-After`, an hour at most; a date in it is ignored."""
    value = next(iter(response.headers.get_all("Retry-After")), "")
    return min(float(value), _MAX_RETRY_AFTER) if value.isdigit() else None


class Link:
    """An open link. One reader, any number of senders. Every method raises LinkClosedError once it is gone."""

    def __init__(
        self, session: AsyncSession, stack: AsyncExitStack, input_rate: int, may_act: Callable[[], bool], *, fast: bool
    ) -> None:
        self._may_act = may_act
        self._session = session
        self._stack = stack
        self._fast = fast
        self._rate = input_rate
        self._encoder = wire.AudioEncoder(input_rate)
        self._socket = session._ws
        self.sent = 0
        """Messages to the model since the set-up."""
        self.unreadable = 0
        """Frames that had no name for us."""

    async def receive(self) -> list[events.Event]:
        """The next frame's events. Must be called again at once: an unread socket dies within 40 s."""
        try:
            raw = await self._socket.recv(decode=False)
        except websockets.exceptions.ConnectionClosed as error:
            raise _closed(error) from None
        _check(self._may_act)  # it may have waited in the socket while this process was stopped
        found = await wire.decode(self._session, raw, fast=self._fast)
        self.unreadable += sum(isinstance(event, events.Unknown) for event in found)
        return found

    def _sending(self) -> None:
        _check(self._may_act)
        self.sent += 1

    async def send_audio(self, pcm: bytes) -> None:
        """Realtime audio at the link's input rate; waits while the socket does not take it."""
        self._sending()
        try:
            if self._fast:
                await self._socket.send(self._encoder.encode(pcm), text=True)
            else:
                blob = types.Blob(data=pcm, mime_type=f"audio/pcm;rate={self._rate}")
                await self._session.send_realtime_input(audio=blob)
        except websockets.exceptions.ConnectionClosed as error:
            raise _closed(error) from None

    async def send_realtime(self, **content: Any) -> None:
        """Anything else that `AsyncSession.send_realtime_input` takes: video, text, activity marks, stream end."""
        self._sending()
        try:
            await self._session.send_realtime_input(**content)
        except websockets.exceptions.ConnectionClosed as error:
            raise _closed(error) from None

    async def send_turn(self, turns: list[types.Content], turn_complete: bool) -> None:
        """Ordered content."""
        self._sending()
        try:
            await self._session.send_client_content(turns=turns or None, turn_complete=turn_complete)  # type: ignore[arg-type]
        except websockets.exceptions.ConnectionClosed as error:
            raise _closed(error) from None

    async def send_tool_response(self, response: types.FunctionResponse) -> None:
        """Answer of a function call; id and name must be the call's."""
        self._sending()
        given = wire.as_called(response, self._session)
        try:
            await self._session.send_tool_response(function_responses=given)
        except websockets.exceptions.ConnectionClosed as error:
            raise _closed(error) from None

    async def send_context_update(self, instructions: str | None, tools: list[types.Tool | object] | None) -> None:
        """Other instructions or tools from here on; None leaves them as they are."""
        self._sending()
        try:
            given = cast("types.ToolListUnion | None", tools)
            await self._session.send_context_update(system_instruction=instructions, tools=given)
        except websockets.exceptions.ConnectionClosed as error:
            raise _closed(error) from None

    async def ping(self) -> None:
        """Returns when the pong is here; it may be late. LinkClosedError."""
        try:
            pong = await self._socket.ping()
            await pong
        except websockets.exceptions.ConnectionClosed as error:
            raise _closed(error) from None

    async def close(self) -> None:
        """Close, and abort the transport when the other side does not answer in time."""
        try:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(2 * _CLOSE_GRACE):
                    await self._stack.aclose()
        finally:
            self.abort()

    def abort(self) -> None:
        """Drop the connection now, with what waits to be sent; `close` is still to be called."""
        transport = getattr(self._socket, "transport", None)
        if transport is not None:
            transport.abort()


def _closed(error: websockets.exceptions.ConnectionClosed) -> LinkClosedError:
    frame = error.rcvd or error.sent
    return LinkClosedError(1006, "") if frame is None else LinkClosedError(frame.code, frame.reason)
