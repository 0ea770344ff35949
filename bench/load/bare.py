"""Calls without Parley: the loop that google-genai's own documentation shows, straight at the emulator."""

import asyncio
import contextlib
import ssl
import time
from contextlib import AsyncExitStack

from google import genai
from google.genai import errors as genai_errors
from google.genai import types
from google.genai.live import AsyncSession
from websockets.exceptions import WebSocketException

from bench.load.call import CallOverError, Hear
from bench.load.stamps import SAMPLE_RATE

_CLOSE_LIMIT = 5.0
_GONE = (genai_errors.APIError, WebSocketException, OSError)
_MIME_TYPE = f"audio/pcm;rate={SAMPLE_RATE}"


class BareDialer:
    """Opens calls at one Live endpoint. One client, as an application has."""

    def __init__(self, target: str, ca_file: str, model: str) -> None:
        self._model = model
        # No deflate, as on the worker's links; everything else is the SDK's default.
        options = {"ssl": ssl.create_default_context(cafile=ca_file), "compression": None}
        self._client = genai.Client(
            api_key="bench", http_options=types.HttpOptions(base_url=target, async_client_args=options)
        )
        # What the worker sets up, too.
        self._config = types.LiveConnectConfig(
            response_modalities=[types.Modality.AUDIO],
            input_audio_transcription=types.AudioTranscriptionConfig(),
            output_audio_transcription=types.AudioTranscriptionConfig(),
            session_resumption=types.SessionResumptionConfig(),
        )

    async def prepare(self, calls: int) -> None:
        """Nothing: connecting is part of `connect`."""

    async def __call__(self, hear: Hear) -> tuple["BareCall", float]:
        """The time is that of `connect`: TCP, TLS, upgrade, set-up."""
        stack = AsyncExitStack()
        began = time.monotonic()
        try:
            session = await stack.enter_async_context(
                self._client.aio.live.connect(model=self._model, config=self._config)
            )
        except _GONE as error:
            raise CallOverError(f"the endpoint did not open the call: {error}") from error
        return BareCall(session, stack, hear), time.monotonic() - began

    async def close(self) -> None:
        """The client's pools."""
        await self._client.aio.aclose()


class BareCall:
    """A :class:`bench.load.call.Call`."""

    def __init__(self, session: AsyncSession, stack: AsyncExitStack, hear: Hear) -> None:
        self._session = session
        self._stack = stack
        self._hear = hear
        self.failure = ""
        self._reader = asyncio.create_task(self._read())

    async def send(self, frame: bytes) -> None:
        """The frame."""
        try:
            await self._session.send_realtime_input(audio=types.Blob(data=frame, mime_type=_MIME_TYPE))
        except _GONE as error:
            raise CallOverError(str(error)) from error

    async def idle(self) -> None:
        """Nothing else is ever due."""

    async def _read(self) -> None:
        try:
            while True:
                async for message in self._session.receive():
                    content = message.server_content
                    if content is None or content.model_turn is None:
                        continue
                    for part in content.model_turn.parts or []:
                        if part.inline_data is not None and part.inline_data.data is not None:
                            self._hear(part.inline_data.data)
        except _GONE as error:
            self.failure = str(error)

    async def close(self) -> None:
        """Reader first, so that the closing handshake is the SDK's."""
        self._reader.cancel()
        await asyncio.wait([self._reader])
        with contextlib.suppress(TimeoutError, *_GONE):
            async with asyncio.timeout(_CLOSE_LIMIT):
                await self._stack.aclose()
