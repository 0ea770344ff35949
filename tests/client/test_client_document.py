"""docs/client.md: its code runs, its numbers and its tables are the code's.

Its sentences on sending are those of test_sending.py, on audio those of test_audio.py and test_playout_queue.py.
"""

import asyncio
import inspect
import re
from pathlib import Path

import grpc

import parley
from parley import errors, events
from parley._connect import CHANNEL_OPTIONS
from parley._inbox import Inbox
from parley._outbox import Outbox
from parley._ring import UplinkRing
from parley._status import Status
from parley.v1 import errors_pb2
from parley.v1 import live_pb2 as pb
from tests.client.fake_gateway import Stream, fake_gateway, status_details
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
    tables = re.findall(r"(?:^\|.*\n)+", TEXT, re.MULTILINE)
    assert [table.splitlines() for table in tables] == [error_rows(), reason_rows()]


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


async def test_a_lost_stream_is_resumed_where_it_broke():
    async def script(stream: Stream) -> None:
        resumed = len(gateway.streams) > 1
        await stream.opened()
        stream.seq = 2 if resumed else 0
        await stream.send(text=pb.TextOutput(text="again" if resumed else "one"))
        if resumed:
            await stream.ended()
            return
        await stream.send(text=pb.TextOutput(text="two"))
        details = ("RetryInfo", errors_pb2.RetryInfoDetail(retry_delay={"nanos": 1_000_000}))
        await stream.context.abort(grpc.StatusCode.UNAVAILABLE, "going away", status_details(14, details))

    seen: list = []
    async with fake_gateway(script) as gateway:
        await functions()["listen"](gateway.target, seen.append)
        resume = gateway.streams[1].requests[0].open.resume
    assert [event.text for event in seen if isinstance(event, events.Text)] == ["one", "two", "again"]
    assert (resume.session_id, resume.resume_token, resume.last_received_seq) == ("ses_test", "secret", 2)


async def test_a_service_that_is_not_there_is_not_resumed():
    task = asyncio.create_task(functions()["listen"]("127.0.0.1:1", print))
    assert isinstance((await asyncio.gather(task, return_exceptions=True))[0], errors.Unavailable)


def test_the_comforts_fit_a_sound_card():
    resampler, queue = functions()["comforts"](48_000)
    assert len(resampler.push(bytes(9600))) < 3200
    assert len(queue.read(1920)) == 1920
