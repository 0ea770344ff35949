"""Hearing over real sockets, with the unmodified SDK: what shows only where audio and recogniser run together."""

import os
import signal
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from google import genai
from google.genai import types
from google.genai.live import AsyncSession

from emulator import texts
from emulator.endpoint.connection import Connection
from emulator.hearing.listening import Listener
from emulator.hearing.vad import FRAME_BYTES, SpeechEnded
from emulator.settings import EmulatorSettings
from tests.emulator.behaviour import behaviour, patched, without
from tests.emulator.conftest import Here, running
from tests.emulator.patience import Patience, in_time
from tests.support.eventually import eventually
from tests.support.speech import TEXTS, question

pytestmark = pytest.mark.asyncio(loop_scope="module")

NATIVE = "gemini-2.5-flash-native-audio-preview-12-2025"
SILENCE = bytes(32000)


def connect(
    here: Here, switches: dict[str, Any], model: str = "gemini-3.8-live", **config: Any
) -> AbstractAsyncContextManager[AsyncSession]:
    options = types.HttpOptions(
        base_url=here.address, api_version="v1beta", async_client_args={"ssl": here.ssl_context}
    )
    headers = {"x-emulator-switches": "; ".join(f"{name}={value}" for name, value in switches.items())}
    wanted = types.LiveConnectConfig(http_options=types.HttpOptions(headers=headers), **config)
    return genai.Client(api_key="key", http_options=options).aio.live.connect(model=model, config=wanted)


async def send(session: AsyncSession, pcm: bytes) -> None:
    for at in range(0, len(pcm), 3200):
        blob = types.Blob(data=pcm[at : at + 3200], mime_type="audio/pcm;rate=16000")
        await session.send_realtime_input(audio=blob)


class Transcripts:
    """What a session was told of the caller's words."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session
        self.pieces: list[str] = []

    async def until(self, kind: str) -> str:
        """The next transcription of that kind (``interim_input`` or ``input``); the others are kept."""
        async with in_time(in_vain=4.0):
            while True:
                content = (await self._session._receive()).server_content
                if content is not None and content.input_transcription is not None:
                    self.pieces.append(content.input_transcription.text or "")
                found = getattr(content, f"{kind}_transcription", None)
                if found is not None:
                    return found.text or ""

    async def all(self, text: str) -> bool:
        """Whether the pieces come to be ``text``."""
        while "".join(self.pieces).strip() != text:
            await self.until("input")
        return True


@behaviour("10.20", "transcript.interim", off=without(interim_transcripts="never"))
async def test_interim_transcripts_come_while_the_caller_speaks(here: Here, switches: dict[str, Any]) -> None:
    pcm = question("weather_paris")
    async with connect(here, {"interim_transcripts": "always", **switches}) as session:
        told = Transcripts(session)
        await send(session, pcm[:38400])
        interim = await told.until("interim_input")
        assert TEXTS["weather_paris"].startswith(interim) and interim != TEXTS["weather_paris"]
        await send(session, pcm[38400:] + SILENCE)
        assert await told.until("input") == TEXTS["weather_paris"]


@behaviour("13.11", "transcript.streamed", off=without(input_transcript="words"))
async def test_2_5_can_be_had_to_transcribe_while_the_caller_speaks(here: Here, switches: dict[str, Any]) -> None:
    pcm = question("order_4711")
    chosen = {"input_transcript": "streamed", "interim_transcripts": "always", **switches}
    async with connect(here, chosen, NATIVE, input_audio_transcription={}) as session:
        told = Transcripts(session)
        for start, end in ((0, 32000), (32000, 51200), (51200, 70400)):
            await send(session, pcm[start:end])
            await told.until("interim_input")
        assert told.pieces[:1] == ["where "]
        await send(session, pcm[70400:] + SILENCE)
        assert await told.all(TEXTS["order_4711"])


@behaviour("10.20", "transcript.order", off=without(input_transcript_order="before"))
async def test_what_the_caller_said_may_come_behind_the_answers_audio(here: Here, switches: dict[str, Any]) -> None:
    async with connect(here, {"input_transcript_order": "after", **switches}) as session:
        await send(session, question("hello") + SILENCE)
        seen = []
        async with in_time(in_vain=4.0):
            async for message in session.receive():
                content = message.server_content
                seen += [name for name in ("input_transcription", "model_turn") if getattr(content, name, None)]
        assert seen[-1] == "input_transcription" and "model_turn" in seen


@behaviour("hearing.open", off=without(vocabulary="grammar"))
async def test_with_an_open_vocabulary_any_english_is_transcribed(here: Here, switches: dict[str, Any]) -> None:
    async with connect(here, {"vocabulary": "open", **switches}) as session:
        await send(session, question("pizza") + SILENCE)
        assert await Transcripts(session).until("input") == TEXTS["pizza"]


def no_activity(self: Listener) -> SpeechEnded:
    raise texts.NO_TURN.refusal()


@behaviour("10.22", off=patched("emulator.hearing.listening.Listener.end", no_activity))
async def test_a_caller_may_mark_its_own_activity(here: Here) -> None:
    detection = types.AutomaticActivityDetection(disabled=True)
    config = types.RealtimeInputConfig(automatic_activity_detection=detection)
    async with connect(here, {}, realtime_input_config=config) as session:
        await session.send_realtime_input(activity_start=types.ActivityStart())
        await send(session, question("hello"))
        await session.send_realtime_input(activity_end=types.ActivityEnd())
        assert await Transcripts(session).until("input") == "hello"


@behaviour("hearing.dies", off=patched("emulator.hearing.recogniser.Recogniser._lost", lambda self, run: None))
async def test_a_conversation_outlives_its_recogniser() -> None:
    async with running(EmulatorSettings(hearing_timeout=Patience.seconds(in_vain=3.0))) as here:
        (pid,) = here.emulator._ears.pids
        async with connect(here, {}) as session:
            told = Transcripts(session)
            os.kill(pid, signal.SIGSTOP)
            await send(session, question("hello") + SILENCE)
            os.kill(pid, signal.SIGKILL)
            assert await told.until("input") == "unknown"
            await send(session, question("hello") + SILENCE)
            assert await told.until("input") == "hello"


async def _unordered(self: Connection, number: int, pcm: bytes, _before: object) -> None:
    await _listen(self, number, pcm, None)


_listen = Connection._listen


@behaviour("hearing.order", off=patched("emulator.endpoint.connection.Connection._listen", _unordered))
async def test_what_is_understood_at_once_waits_for_what_was_said_before() -> None:
    async with running(EmulatorSettings(hearing_timeout=Patience.seconds(in_vain=3.0))) as here:
        # As it will come again: after silence, and with the detector's frames beginning where they begin here.
        hello, goodbye = SILENCE + question("hello") + SILENCE, question("goodbye")
        goodbye += bytes(-len(goodbye) % FRAME_BYTES)
        async with connect(here, {}) as session:
            await send(session, hello)
            assert await Transcripts(session).until("input") == "hello"
        (pid,) = here.emulator._ears.pids
        async with connect(here, {}) as session:
            told = Transcripts(session)
            os.kill(pid, signal.SIGSTOP)
            try:
                await send(session, goodbye + hello)
                await eventually(lambda: here.emulator._ears.counters.remembered == 1, Patience.seconds(in_vain=3.0))
            finally:
                os.kill(pid, signal.SIGCONT)
            assert [await told.until("input"), await told.until("input")] == [TEXTS["goodbye"], "hello"]
