"""One link: a WebSocket to Gemini Live, opened by the unmodified SDK."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import structlog
import websockets.exceptions
from google import genai
from google.genai import errors as genai_errors
from google.genai import types
from google.genai.live import AsyncSession

from parley.v1 import errors_pb2
from services.fabric.errors import ServiceError
from services.session_worker import events, wire
from services.session_worker.settings import WorkerSettings

log = structlog.get_logger()

_MAX_FRAME = 8 * 1024 * 1024
_CLOSE_GRACE = 0.5
"""Seconds that a closing handshake may take before the transport is aborted (a resume needs the old socket gone)."""


@dataclass
class LinkClosedError(Exception):
    """The link is gone."""

    code: int
    """WebSocket close code; 1006 when there was none."""
    reason: str

    def __str__(self) -> str:
        return f"{self.code} {self.reason}".strip()


class Dialer:
    """Opens links. One a process: the SDK's client holds a TLS context and connection pools."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._fast = settings.link_codec == "fast"
        if self._fast:
            wire.check_sdk_version()
        tls = ssl.create_default_context(cafile=settings.gemini_ca_file or None)
        options = types.HttpOptions(
            # Vertex numbers its versions otherwise; the SDK knows the one that it is made for.
            api_version=settings.gemini_api_version if settings.backend == "developer" else None,
            base_url=settings.gemini_base_url or None,
            # Compression costs CPU and wins nothing on base64 audio. Google's pongs come up to 30 s late, so pings
            # of the library would kill healthy links: liveness is judged by traffic.
            async_client_args={
                "ssl": tls,
                "compression": None,
                "ping_interval": None,
                "max_size": _MAX_FRAME,
                "open_timeout": settings.dial_timeout.total_seconds(),
                "close_timeout": _CLOSE_GRACE,
            },
        )
        self._timeout = settings.dial_timeout.total_seconds()
        self._client = genai.Client(
            api_key=settings.gemini_api_key.get_secret_value() or "unset",
            vertexai=settings.backend == "vertex",
            http_options=options,
        )

    async def dial(self, model: str, config: types.LiveConnectConfig, input_rate: int) -> Link:
        """Connect and set up. ServiceError (BACKEND_*) when the endpoint refuses or does not answer in time."""
        stack = AsyncExitStack()
        try:
            async with asyncio.timeout(self._timeout):
                session = await stack.enter_async_context(self._client.aio.live.connect(model=model, config=config))
            if session.setup_complete is None:
                raise ServiceError(
                    errors_pb2.ERROR_REASON_BACKEND_UNAVAILABLE,
                    "the model's endpoint answered the set-up with nonsense",
                )
        except BaseException as error:
            with contextlib.suppress(Exception):
                await stack.aclose()
            if isinstance(error, ServiceError) or not isinstance(error, Exception):
                raise
            raise _dial_error(error, self._timeout) from error
        return Link(session, stack, input_rate, fast=self._fast)

    async def close(self) -> None:
        """Close the SDK's pools."""
        with contextlib.suppress(Exception):
            await self._client.aio.aclose()


def _dial_error(error: Exception, timeout: float) -> ServiceError:
    """Why a link could not be opened, as callers are told."""
    reasons = errors_pb2
    match error:
        case TimeoutError():
            return ServiceError(
                reasons.ERROR_REASON_BACKEND_UNAVAILABLE, f"the model's endpoint did not answer within {timeout:g} s"
            )
        case websockets.exceptions.InvalidStatus():
            code = error.response.status_code
            text = f"the model's endpoint answered the upgrade with HTTP {code}"
            if code == 429:
                return ServiceError(reasons.ERROR_REASON_BACKEND_QUOTA, text)
            fatal = 400 <= code < 500
            return ServiceError(
                reasons.ERROR_REASON_BACKEND_REFUSED if fatal else reasons.ERROR_REASON_BACKEND_UNAVAILABLE, text
            )
        case genai_errors.APIError():
            text = f"the model's endpoint closed the set-up: {error.code} {error.details or ''}".strip()
            lowered = text.lower()
            if "quota" in lowered or "resource_exhausted" in lowered:
                return ServiceError(reasons.ERROR_REASON_BACKEND_QUOTA, text)
            fatal = error.code in (1002, 1003, 1007, 1008)
            return ServiceError(
                reasons.ERROR_REASON_BACKEND_REFUSED if fatal else reasons.ERROR_REASON_BACKEND_UNAVAILABLE, text
            )
        case OSError() | websockets.exceptions.WebSocketException():
            return ServiceError(
                reasons.ERROR_REASON_BACKEND_UNAVAILABLE,
                f"the model's endpoint cannot be reached ({type(error).__name__}: {error})",
            )
        case _:
            return ServiceError(
                reasons.ERROR_REASON_BACKEND_REFUSED, f"the set-up was refused ({type(error).__name__}: {error})"
            )


class Link:
    """An open link. One reader, any number of senders. Every method raises LinkClosedError once it is gone."""

    def __init__(self, session: AsyncSession, stack: AsyncExitStack, input_rate: int, *, fast: bool) -> None:
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
        found = await wire.decode(self._session, raw, fast=self._fast)
        self.unreadable += sum(isinstance(event, events.Unknown) for event in found)
        return found

    async def send_audio(self, pcm: bytes) -> None:
        """Realtime audio at the link's input rate; waits while the socket does not take it."""
        self.sent += 1
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
        self.sent += 1
        try:
            await self._session.send_realtime_input(**content)
        except websockets.exceptions.ConnectionClosed as error:
            raise _closed(error) from None

    async def send_turn(self, turns: list[types.Content], turn_complete: bool) -> None:
        """Ordered content."""
        self.sent += 1
        try:
            await self._session.send_client_content(turns=turns or None, turn_complete=turn_complete)  # type: ignore[arg-type]
        except websockets.exceptions.ConnectionClosed as error:
            raise _closed(error) from None

    async def send_tool_response(self, response: types.FunctionResponse) -> None:
        """Answer of a function call; id and name must be the call's."""
        self.sent += 1
        try:
            await self._session.send_tool_response(function_responses=response)
        except websockets.exceptions.ConnectionClosed as error:
            raise _closed(error) from None

    async def send_context_update(self, instructions: str | None, tools: list[types.Tool | object] | None) -> None:
        """Other instructions or tools from here on; None leaves them as they are."""
        self.sent += 1
        try:
            await self._session.send_context_update(system_instruction=instructions, tools=tools)
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
        with contextlib.suppress(Exception):
            async with asyncio.timeout(2 * _CLOSE_GRACE):
                await self._stack.aclose()
        transport = getattr(self._socket, "transport", None)
        if transport is not None:
            transport.abort()


def _closed(error: websockets.exceptions.ConnectionClosed) -> LinkClosedError:
    frame = error.rcvd or error.sent
    return LinkClosedError(1006, "") if frame is None else LinkClosedError(frame.code, frame.reason)
