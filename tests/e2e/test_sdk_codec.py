"""The switch: links on which google-genai itself encodes and decodes the audio."""

from __future__ import annotations

import hashlib
import wave

import parley
from parley import events
from parley.cli.stack import Stack, StackConfig
from tests.support.counts import heard
from tests.support.talks import speech


async def test_the_sdk_can_do_the_audio_too() -> None:
    with wave.open(str(speech("order_4711"))) as question:
        pcm = question.readframes(question.getnframes())
    pcm = pcm[: len(pcm) // 1280 * 1280]
    async with Stack(StackConfig(env={"PARLEY_WORKER_LINK_CODEC": "sdk"})) as stack:
        async with parley.connect(stack.gateways[0].ready["address"], profile="support") as session:
            await session.send_audio(pcm)
            await session.audio_stream_end()
            spoken = 0.0
            async for event in session:
                if isinstance(event, events.Audio):
                    spoken += event.seconds
                if isinstance(event, events.TurnComplete) and spoken:
                    break
        record = await heard(stack, session.id)
    assert record["audio"]["sha256"] == hashlib.sha256(pcm).hexdigest()
    assert record["heard"] == ["where is my order four seven one one"]
    assert spoken > 3
