"""The real-time shell against a scripted gateway: pace, verdict, and what it says when things go wrong."""

import asyncio
import hashlib
import json
import wave

import grpc
import pytest

from parley.cli import main
from parley.cli.conversation import Step
from parley.cli.talking import TalkOptions, talk
from parley.v1 import live_pb2 as pb
from tests.client.fake_gateway import Stream, fake_gateway

VOICE = b"\x00\x40" * 16_000  # 1 s


async def answer(stream: Stream, seconds=0.1, *, skip=False):
    """Hears half a second, then the rest; answers, and waits for the end."""
    await stream.opened()
    heard = 0
    while heard < 16_000:
        request = await stream.read()
        heard += sum(map(len, request.audio.frames))
    await stream.send(input_transcript=pb.Transcript(text="a question"))
    while heard < len(VOICE):
        heard += sum(map(len, (await stream.read()).audio.frames))
    if skip:
        stream.seq += 1
    await stream.send(output_transcript=pb.Transcript(text="an answer"))
    await stream.audio(seconds)
    await stream.send(turn_complete=pb.TurnComplete())
    await stream.read_until("end")
    await stream.ended()


async def test_a_conversation_is_held_in_real_time_and_accounted_for():
    async with fake_gateway(answer) as gateway:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        options = TalkOptions(gateway.target, [Step("question", VOICE)], video=[b"\xff\xd81", b"\xff\xd82"])
        report = await talk(options)
        took = loop.time() - begun
        stream = gateway.streams[0]
    assert report.ok, report
    assert took >= 0.95
    sent = b"".join(frame for r in stream.of("audio") for frame in r.audio.frames)
    assert sent.startswith(VOICE)
    document = json.loads(json.dumps(report.document()))
    assert document["sent"]["audio_bytes"] == len(sent)
    assert document["sent"]["audio_sha256"] == hashlib.sha256(sent).hexdigest()
    assert document["sent"]["frames"] == len(sent) // 1280
    assert document["sent"]["video"] == [hashlib.sha256(r.video.image.data).hexdigest() for r in stream.of("video")]
    assert len(document["sent"]["video"]) == 2
    assert document["received"]["transcripts"] == {"in": ["a question"], "out": ["an answer"]}
    assert document["received"]["audio_seconds"] == pytest.approx(0.1)
    assert document["sequence"] == {
        "whole": True, "holes": [], "duplicates": 0, "out_of_order": 0, "last_seq": stream.seq, "gaps": [],
    }  # fmt: skip
    assert (document["ended"], document["outcome"], document["session_id"]) == ("CALLER", "completed", "ses_test")
    assert stream.metadata["traceparent"].split("-")[1] == document["trace_id"]
    assert 0 <= document["latencies"]["first_audio_ms"][0] < 1000


async def test_a_hole_in_the_numbers_is_a_failure():
    async def script(stream: Stream) -> None:
        await answer(stream, skip=True)

    async with fake_gateway(script) as gateway:
        report = await talk(TalkOptions(gateway.target, [Step("question", VOICE)]))
    assert not report.ok
    assert report.document()["sequence"]["holes"] == [[2, 2]]
    assert "not whole" in report.error


async def test_a_model_that_says_nothing_is_given_up():
    async def script(stream: Stream) -> None:
        await stream.opened()
        await stream.read_until("end")
        await stream.ended()

    async with fake_gateway(script) as gateway:
        report = await talk(TalkOptions(gateway.target, [Step("text", text="hello")], turn_timeout=0.2))
    assert (report.outcome, report.ok, report.ended) == ("no_answer", False, "CALLER")
    assert report.sent.texts == ["hello"]


async def test_a_session_that_the_service_ends_is_not_a_success():
    async def script(stream: Stream) -> None:
        await stream.opened()
        await stream.read_until("audio")
        await stream.send(ended=pb.Ended(reason=pb.END_REASON_LIMIT, message="15 minutes"))

    async with fake_gateway(script) as gateway:
        report = await talk(TalkOptions(gateway.target, [Step("question", VOICE)]))
    assert (report.outcome, report.ok) == ("ended_early", False)
    assert "LIMIT: 15 minutes" in report.error


async def test_a_lost_stream_and_a_total_timeout_are_reported_not_raised():
    async def lost(stream: Stream) -> None:
        await stream.opened()
        await stream.read_until("audio")
        await stream.context.abort(grpc.StatusCode.UNAVAILABLE, "worker gone")

    async def silent(stream: Stream) -> None:
        while await stream.read() is not None:
            pass

    async with fake_gateway(lost) as gateway:
        report = await talk(TalkOptions(gateway.target, [Step("question", VOICE)]))
    assert report.failure is not None
    assert report.failure.code == "UNAVAILABLE"
    assert "worker gone" in report.error
    async with fake_gateway(silent) as gateway:
        report = await talk(TalkOptions(gateway.target, [Step("question", VOICE)], timeout=0.2))
    assert report.outcome == "timeout"


async def test_the_command_prints_one_json_line_writes_the_reply_and_exits_by_the_verdict(tmp_path, capsys):
    source, reply = tmp_path / "in.wav", tmp_path / "out" / "reply.wav"
    with wave.open(str(source), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        file.writeframes(VOICE)
    async with fake_gateway(answer) as gateway:
        arguments = ["talk", "--target", gateway.target, "--wav", str(source), "--out", str(reply), "--json"]
        status = await asyncio.to_thread(main, arguments)
    out = capsys.readouterr()
    assert status == 0, out.err
    assert json.loads(out.out)["outcome"] == "completed"
    assert out.out.count("\n") == 1
    with wave.open(str(reply)) as file:
        assert (file.getframerate(), file.getnchannels()) == (24_000, 1)
        samples = file.readframes(file.getnframes())
    assert samples.count(b"\1\0") >= 2400
    assert len(samples) > 24_000 * 2


async def test_the_command_says_in_one_line_what_is_wrong(capsys):
    async def script(stream: Stream) -> None:
        await stream.read()
        await stream.context.abort(grpc.StatusCode.NOT_FOUND, "there is no profile nope")

    async with fake_gateway(script) as gateway:
        status = await asyncio.to_thread(
            main, ["talk", "--target", gateway.target, "--text", "hi", "--profile", "nope"]
        )
    out = capsys.readouterr()
    assert status == 1
    assert out.err.startswith("parley: there is no profile nope [NOT_FOUND]")
    assert out.err.count("\n") == 1
