"""docs/client.md: its code runs, its numbers and its tables are the code's.

Its sentences on sending are those of test_sending.py, on lost streams those of test_resume.py, on audio those of
test_audio.py and test_playout_queue.py.
"""

import asyncio
import dataclasses
import inspect
import re
from pathlib import Path

import grpc
import pytest

import parley
from parley import _retry, _uplink, errors, events
from parley._connect import CHANNEL_OPTIONS
from parley._inbox import Inbox
from parley._outbox import Outbox
from parley._ring import UplinkRing
from parley._status import Status
from parley.v1 import live_pb2 as pb
from tests.client.fake_gateway import Stream, fake_gateway
from tests.client.test_errors import REASONS, received, subclasses

DOCUMENT = Path(__file__).parents[2] / "docs" / "client.md"
TEXT = DOCUMENT.read_text()


def default(function, name):
    return inspect.signature(function).parameters[name].default


# -- tables ----------------------------------------------------------------------------------------------------------


def error_rows():
    codes = {}
    for code in grpc.StatusCode:
        codes.setdefault(type(Status(code, "", ()).error()), []).append(code.name)
    for number in REASONS:
        error = received(number)[0]
        codes.setdefault(type(error), [error.code])
    rows = ["| error | status | what to do |", "|---|---|---|"]
    for kind in sorted(subclasses(errors.ParleyError) - {errors.ParleyError}, key=lambda kind: kind.__name__):
        rows.append(f"| `{kind.__name__}` | {', '.join(codes[kind])} | {kind.advice} |")
    return rows


def reason_rows():
    rows = ["| reason | error | what to do |", "|---|---|---|"]
    for number, name in REASONS.items():
        if name in errors._ADVICE:
            rows.append(f"| {name} | `{type(received(number)[0]).__name__}` | {errors._ADVICE[name]} |")
    return rows


def test_the_tables_of_errors_are_the_code_s():
    _, *tables = re.findall(r"(?:^\|.*\n)+", TEXT, re.MULTILINE)
    assert [table.splitlines() for table in tables] == [error_rows(), reason_rows()]


def test_the_events_of_streams_have_the_fields_that_the_table_says():
    rows = re.findall(r"^\| `(\w+)\(([\w, ]+)\)` \|", TEXT, re.MULTILINE)
    assert [name for name, _ in rows] == ["StreamLost", "StreamResumed", "GatewayDraining"]
    for name, fields in rows:
        assert ["seq", *fields.split(", ")] == [f.name for f in dataclasses.fields(getattr(events, name))]


# -- numbers ---------------------------------------------------------------------------------------------------------


def test_the_numbers_are_the_code_s():
    options = dict(CHANNEL_OPTIONS)
    gone = (options["grpc.keepalive_time_ms"] + options["grpc.http2.ping_timeout_ms"]) // 1000
    queue = parley.PlayoutQueue.__init__
    for sentence in (
        f"`open_timeout` ({default(parley.connect, 'open_timeout').seconds} s)",
        f"`close_timeout` ({default(parley.connect, 'close_timeout').seconds} s)",
        f"cuts frames of {default(parley.connect, 'frame_ms')} ms",
        f"holds {default(Outbox, 'max_items')} messages or {default(Outbox, 'max_bytes') >> 10} KiB",
        f"up to {default(UplinkRing, 'max_bytes') >> 20} MiB or {default(UplinkRing, 'max_items')} messages",
        f"ends the stream within {gone} s",
        f"holds {default(Outbox, 'offline_items')} messages or {default(Outbox, 'offline_bytes') >> 10} KiB, half",
        f"or {_retry.UNREACHED:g} s where no gateway answers",
        f"{_retry.FIRST_BACKOFF:g} s later, then after twice as long each time up to {_retry.LAST_BACKOFF:g} s",
        f"sent more than {_uplink.HORIZON:g} s before (`TOO_OLD`)",
        f"when {default(queue, 'prefill_seconds') * 1000:g} ms are",
        f"exceed {default(queue, 'max_seconds'):g} s (`max_seconds`)",
        f"{parley.audio.LOWEST_RATE} to {parley.audio.HIGHEST_RATE} Hz",
    ):
        assert sentence in " ".join(TEXT.split()), sentence
    # An inbox that was smaller than what the service sends ahead would hold it back for nothing.
    assert default(Inbox, "max_bytes") > 0.4 * 48_000


def test_it_is_short():
    assert len(TEXT.splitlines()) <= 150


# -- code ------------------------------------------------------------------------------------------------------------


def functions():
    names: dict = {"asyncio": asyncio, "parley": parley}
    for block in re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL):
        exec(block, names)
    return names


async def test_a_question_is_answered():
    async def script(stream: Stream) -> None:
        await stream.opened()
        question = await stream.read_until("text")
        for word in question.text.text.split():
            await stream.send(output_transcript=pb.Transcript(text=word))
        await stream.send(generation_complete=pb.GenerationComplete())
        await stream.read_until("end")
        await stream.ended()

    async with fake_gateway(script) as gateway:
        assert await functions()["ask"](gateway.target) == "whereismyorder4711"


async def test_another_process_takes_a_session_up_where_the_first_one_is():
    async def script(stream: Stream) -> None:
        await stream.opened()
        if len(gateway.streams) == 1:
            await stream.send(text=pb.TextOutput(text="one"))
            await stream.send(text=pb.TextOutput(text="two"))
            await gateway_left.wait()
            await stream.lose(reason="SUPERSEDED", code=grpc.StatusCode.ABORTED)
        stream.seq = 1
        await stream.send(text=pb.TextOutput(text="two"))
        await stream.ended()

    seen: list = []
    gateway_left = asyncio.Event()
    async with fake_gateway(script) as gateway:
        async with parley.connect(gateway.target, profile="p") as session:
            assert [(await anext(session)).seq for _ in range(2)] == [0, 1]
            await functions()["take_up"](gateway.target, session.resume_point, seen.append)
            gateway_left.set()
            assert (await anext(session)).text == "two"  # it was there already
            with pytest.raises(errors.Superseded):
                await anext(session)
        resume = gateway.streams[1].requests[0].open.resume
    assert [event.text for event in seen if isinstance(event, events.Text)] == ["two"]
    assert (resume.session_id, resume.resume_token, resume.last_received_seq) == ("ses_test", "secret", 1)


def test_the_comforts_fit_a_sound_card():
    resampler, queue = functions()["comforts"](48_000)
    assert len(resampler.push(bytes(9600))) < 3200
    assert len(queue.read(1920)) == 1920
