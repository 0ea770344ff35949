"""The main job with real processes and real speech: question, tool, answer, barge-in, trace."""

from __future__ import annotations

import array
import asyncio
import random
import sqlite3
import wave
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from parley.cli.otlp import OtlpReceiver
from parley.cli.stack import Stack, StackConfig
from tests.support.counts import heard
from tests.support.eventually import eventually
from tests.support.hearing import hear
from tests.support.talks import Talk, speech, talk

pytestmark = pytest.mark.asyncio(loop_scope="module")

STATUSES = ("shipped", "delayed", "delivered", "cancelled", "processing", "returned")
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
GRAMMAR = f"order four seven one one is ( {' | '.join(STATUSES)} ) and arrives on ( {' | '.join(DAYS)} )"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def receiver() -> AsyncIterator[OtlpReceiver]:
    async with OtlpReceiver() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(receiver: OtlpReceiver) -> AsyncIterator[Stack]:
    async with Stack(StackConfig(workers=1, gateways=1, otlp_endpoint=receiver.endpoint)) as running:
        yield running


def target(stack: Stack) -> str:
    return str(stack.gateways[0].ready["address"])


def read_wav(path: Path) -> tuple[bytes, int]:
    with wave.open(str(path)) as wav:
        return wav.readframes(wav.getnframes()), wav.getframerate()


def loudness(pcm: bytes) -> float:
    samples = array.array("h", pcm)
    return sum(abs(sample) for sample in samples) / max(1, len(samples))


@dataclass
class Talks:
    """What became of every conversation of these tests."""

    status: str
    """Of order 4711, in the database."""
    day: str
    order: Talk
    order_reply: Path
    whole: Talk
    cut: Talk
    cut_reply: Path
    pictures: Talk
    traced: Talk


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def talks(stack: Stack, receiver: OtlpReceiver, tmp_path_factory: pytest.TempPathFactory) -> Talks:
    """All at once: they take as long as they sound."""
    chance = random.SystemRandom()
    status, day = chance.choice(STATUSES), chance.choice(DAYS)
    with sqlite3.connect(stack.state_dir / "orders.sqlite") as orders:
        orders.execute("UPDATE orders SET status = ?, arrives = ? WHERE order_id = '4711'", (status, day))
    folder = tmp_path_factory.mktemp("replies")
    order_reply, cut_reply = folder / "order.wav", folder / "cut.wav"
    question, interruption = speech("tell_me_about_your_service"), speech("order_4711")
    pictures = sorted(speech("what_do_you_see").parent.glob("*.jpg"))
    assert pictures
    shown = [part for picture in pictures for part in ("--video", picture)]
    order, whole, cut, with_pictures, traced = await asyncio.gather(
        talk(target(stack), "--wav", speech("order_4711"), "--out", order_reply),
        talk(target(stack), "--wav", question),
        talk(target(stack), "--barge-in", "--wav", question, "--wav", interruption, "--out", cut_reply),
        talk(target(stack), "--wav", speech("what_do_you_see"), *shown),
        talk(target(stack), "--wav", speech("order_4711"), "--otlp-endpoint", receiver.endpoint, "--timeout", "60"),
    )
    return Talks(status, day, order, order_reply, whole, cut, cut_reply, with_pictures, traced)


async def test_the_reply_speaks_what_the_database_holds(stack: Stack, talks: Talks) -> None:
    result = talks.order
    assert result.status == 0, result.stderr
    pcm, rate = read_wav(talks.order_reply)
    assert hear(pcm, rate, GRAMMAR) == f"order four seven one one is {talks.status} and arrives on {talks.day}"
    assert [tool["name"] for tool in result.document["received"]["tools"]] == ["lookup_order"]
    record = await heard(stack, result.document["session_id"])
    assert record["audio"]["sha256"] == result.document["sent"]["audio_sha256"]
    assert record["audio"]["bytes"] == result.document["sent"]["audio_bytes"]


async def test_after_a_barge_in_the_first_answer_stops(stack: Stack, talks: Talks) -> None:
    undisturbed, result = talks.whole, talks.cut
    assert undisturbed.status == 0, undisturbed.stderr
    assert result.status == 0, result.stderr
    assert result.document["received"]["interrupted"] == 1
    record = await heard(stack, result.document["session_id"])
    first, *_, last = record["said"]
    assert first["interrupted"]
    assert not last["interrupted"]
    assert "order four seven one one" in last["text"]
    # What the listener heard of the first answer: from its begin to the silence before the second.
    played = result.document["received"]["played_seconds"]
    full = undisturbed.document["received"]["played_seconds"]
    assert full > 8
    assert played < full, "the first answer was heard to its end although it was interrupted"
    assert loudness(read_wav(talks.cut_reply)[0]) > 0


async def test_pictures_go_beside_the_audio(stack: Stack, talks: Talks) -> None:
    result = talks.pictures
    assert result.status == 0, result.stderr
    record = await heard(stack, result.document["session_id"])
    seen = [picture["sha256"] for picture in record["video"]]
    assert seen
    assert seen == result.document["sent"]["video"][: len(seen)]
    assert "picture" in record["said"][0]["text"]


def parents_of(spans: list[Any], name: str) -> list[str]:
    by_id = {span.span_id: span.name for span in spans}
    return [by_id.get(span.parent_id, "") for span in spans if span.name == name]


async def test_one_trace_holds_caller_gateway_worker_and_tools(talks: Talks, receiver: OtlpReceiver) -> None:
    result = talks.traced
    assert result.status == 0, result.stderr
    trace_id = result.document["trace_id"]

    def complete() -> bool:
        names = [span.name for span in receiver.trace(trace_id)]
        return names.count("execute_tool lookup_order") == 2 and "talk" in names and "parley.turn" in names

    await eventually(complete)
    spans = receiver.trace(trace_id)
    services = {span.service for span in spans}
    assert len(services) == 4, services
    assert parents_of(spans, "talk") == [""]
    assert parents_of(spans, "parley.open") == ["talk"]
    assert parents_of(spans, "parley.place") == ["parley.open"]
    assert parents_of(spans, "parley.connect") == ["parley.place"]
    assert set(parents_of(spans, "parley.turn")) == {"parley.open"}
    assert sorted(parents_of(spans, "execute_tool lookup_order")) == ["execute_tool lookup_order", "parley.turn"]
    assert {span.attributes["session.id"] for span in spans if span.name != "talk"} == {result.document["session_id"]}
