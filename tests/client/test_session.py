"""The thin shell, against a real gRPC server."""

import asyncio
import sys
from datetime import timedelta

import grpc
import pytest

import parley
from parley import errors, events
from parley.v1 import errors_pb2
from parley.v1 import live_pb2 as pb
from tests.client.fake_gateway import Stream, converse_until_end, fake_gateway, status_details
from tests.support.eventually import eventually

FRAME = b"\1\0" * 640


async def test_open_comes_first_and_everything_after_it_is_numbered_without_holes():
    async with fake_gateway(converse_until_end) as gateway:
        async with parley.connect(
            gateway.target, profile="support", request_id="r-1", labels={"team": "a"}, api_key="k", frame_ms=20
        ) as session:
            assert session.id == "ses_test"
            await session.send_audio(FRAME + FRAME[:100])
            await session.send_video(b"\xff\xd8jpeg")
            await session.send_text("hello")
            await session.send_turn("a turn")
            await session.activity_start()
            await session.activity_end()
            await session.audio_stream_end()
            await session.send_tool_result("call-1", {"status": "shipped", "day": 3}, scheduling="WHEN_IDLE")
            await session.send_tool_result("call-2", error="no such order")
            await session.update_context(tools=[])
        stream = gateway.streams[0]
    assert stream.requests[0].open.request_id == "r-1"
    assert stream.requests[0].open.profile == "support"
    assert stream.requests[0].open.labels == {"team": "a"}
    assert stream.requests[0].seq == 0
    assert stream.metadata["authorization"] == "Bearer k"
    assert stream.numbered() == list(range(1, len(stream.numbered()) + 1))
    assert b"".join(frame for r in stream.of("audio") for frame in r.audio.frames) == FRAME + FRAME[:100]
    # The rest of the audio leaves before the text, not after it; the picture does not wait for it.
    order = [r.WhichOneof("payload") for r in stream.requests if r.WhichOneof("payload") != "ack"]
    assert order[-10:] == [
        "video", "audio", "text", "turn", "activity_start", "activity_end", "audio_stream_end",
        "tool_result", "tool_result", "context_update", "end",
    ][-10:]  # fmt: skip
    assert stream.of("turn")[0].turn.turn_complete
    assert stream.of("turn")[0].turn.content[0].role == pb.ROLE_USER
    assert stream.of("tool_result")[0].tool_result.output["day"] == 3
    assert stream.of("context_update")[0].context_update.HasField("tools")
    assert not stream.of("context_update")[0].context_update.HasField("instructions")


async def test_audio_is_cut_into_frames_and_odd_bytes_are_refused():
    async with fake_gateway(converse_until_end) as gateway:
        async with parley.connect(gateway.target, profile="p") as session:
            with pytest.raises(ValueError, match="whole 16 bit samples"):
                await session.send_audio(b"123")
            await session.send_audio(b"\1\0" * 1600)
        frames = [frame for r in gateway.streams[0].of("audio") for frame in r.audio.frames]
    assert [len(frame) for frame in frames] == [1280, 1280, 640]


async def test_events_come_typed_and_in_order_and_the_iteration_ends_with_the_stream():
    async def script(stream: Stream) -> None:
        await stream.opened(resume_window={"seconds": 120})
        await stream.send(input_transcript=pb.Transcript(text="hello"))
        await stream.audio(0.02)
        tool = pb.ToolActivity(call_id="c", name="lookup_order", phase=pb.TOOL_PHASE_STARTED)
        tool.arguments.update({"number": 4711, "deep": [1, {"a": None}]})
        await stream.send(tool_activity=tool)
        await stream.send(turn_complete=pb.TurnComplete())
        await stream.read_until("end")
        await stream.ended()

    async with fake_gateway(script) as gateway, parley.connect(gateway.target, profile="p") as session:
        seen = []
        async for event in session:
            seen.append(event)
            if isinstance(event, events.TurnComplete):
                await session.end("done")
    assert [type(event) for event in seen] == [
        events.Opened, events.InputTranscript, events.Audio, events.ToolActivity, events.TurnComplete, events.Ended,
    ]  # fmt: skip
    assert seen[0].resume_window == timedelta(seconds=120)
    assert "secret" not in repr(seen[0])
    assert seen[2].seconds == pytest.approx(0.02)
    assert seen[3].arguments == {"number": 4711, "deep": [1, {"a": None}]}
    assert isinstance(seen[3].arguments["number"], int)
    assert session.ended == events.Ended(5, "CALLER")
    assert session.audit.result().whole


async def test_a_payload_of_a_newer_server_is_an_unknown_event():
    async def script(stream: Stream) -> None:
        await stream.opened()
        newer = pb.ConverseResponse(seq=1).SerializeToString() + b"\xfa\x07\x03abc"  # field 127, length-delimited
        await stream.context.write(pb.ConverseResponse.FromString(newer))
        await stream.context.write(pb.ConverseResponse(acked_seq=1))
        stream.seq = 1
        await stream.read_until("end")
        await stream.ended()

    async with fake_gateway(script) as gateway, parley.connect(gateway.target, profile="p") as session:
        await session.send_text("x")
        assert isinstance(await anext(session), events.Opened)
        unknown = await anext(session)
        assert isinstance(unknown, events.Unknown)
        assert b"abc" in unknown.data
        await eventually(lambda: session.stats.unacked_messages == 0)
    assert session.audit.result().whole


async def test_what_is_consumed_is_acked_by_audio_time_and_by_time():
    async def script(stream: Stream) -> None:
        await stream.opened()
        for _ in range(10):
            await stream.audio(0.04)
        while not stream.of("ack") or stream.of("ack")[-1].ack.seq < 10:
            await stream.read()
        await stream.send(text=pb.TextOutput(text="lonely"))
        while stream.of("ack")[-1].ack.seq < 11:
            await stream.read()
        await stream.read_until("end")
        await stream.ended()

    async with fake_gateway(script) as gateway:
        async with parley.connect(gateway.target, profile="p") as session, asyncio.timeout(30):
            async for event in session:
                if isinstance(event, events.Text):
                    break
            await eventually(lambda: gateway.streams[0].of("ack")[-1].ack.seq == 11)
        acks = [r.ack.seq for r in gateway.streams[0].of("ack")]
        assert acks == sorted(set(acks))
        assert all(r.seq == 0 for r in gateway.streams[0].of("ack"))


async def test_nothing_is_acked_that_the_application_has_not_taken():
    async def script(stream: Stream) -> None:
        await stream.opened()
        await stream.audio(0.3)
        await stream.audio(0.3)
        await stream.read_until("text")
        await stream.read_until("end")
        await stream.ended()

    async with fake_gateway(script) as gateway, parley.connect(gateway.target, profile="p") as session:
        assert isinstance(await anext(session), events.Opened)
        assert isinstance(await anext(session), events.Audio)
        await session.send_text("now")
        await eventually(lambda: gateway.streams[0].of("text"))
        assert {r.ack.seq for r in gateway.streams[0].of("ack")} <= {1}


async def test_interrupted_overtakes_voided_audio_that_waits():
    async def script(stream: Stream) -> None:
        await stream.opened()
        for _ in range(5):
            await stream.audio(0.1)
        await stream.send(output_transcript=pb.Transcript(text="valid"))
        await stream.send(
            interrupted=pb.Interrupted(reason=pb.INTERRUPTION_REASON_BARGE_IN, void_from_seq=2, void_to_seq=9),
            seq=10,
        )
        await stream.read_until("end")
        await stream.ended()

    async with fake_gateway(script) as gateway, parley.connect(gateway.target, profile="p") as session:
        await eventually(lambda: session.stats.voided_audio_messages == 4)
        seen = []
        async for event in session:
            seen.append((type(event), event.seq))
            if isinstance(event, events.Interrupted):
                break
    assert seen == [(events.Opened, 0), (events.Audio, 1), (events.OutputTranscript, 6), (events.Interrupted, 10)]
    result = session.audit.result()
    assert result.whole
    assert result.holes == ()


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID", errors.InvalidRequest),
        (grpc.StatusCode.UNAUTHENTICATED, "CREDENTIAL_INVALID", errors.Unauthenticated),
        (grpc.StatusCode.NOT_FOUND, "PROFILE_UNKNOWN", errors.NotFound),
        (grpc.StatusCode.FAILED_PRECONDITION, "SESSION_ENDED", errors.SessionEnded),
        (grpc.StatusCode.ABORTED, "SUPERSEDED", errors.Superseded),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "NO_CAPACITY", errors.ResourceExhausted),
        (grpc.StatusCode.UNAVAILABLE, "NO_WORKER", errors.Unavailable),
        (grpc.StatusCode.UNIMPLEMENTED, "NOT_IMPLEMENTED", errors.Unimplemented),
        (grpc.StatusCode.INTERNAL, "INTERNAL", errors.InternalError),
    ],
)
async def test_a_refused_open_raises_the_typed_error_with_its_details(code, reason, kind):
    violation = errors_pb2.FieldViolation(field="open.config.model", description="must be set")
    metadata = status_details(
        code.value[0],
        ("ErrorInfo", errors_pb2.ErrorInfoDetail(reason=f"ERROR_REASON_{reason}", domain="parley")),
        ("BadRequest", errors_pb2.BadRequestDetail(field_violations=[violation])),
        ("RetryInfo", errors_pb2.RetryInfoDetail(retry_delay={"seconds": 1, "nanos": 500_000_000})),
        ("SomethingNew", errors_pb2.RetryInfoDetail()),
    )

    async def script(stream: Stream) -> None:
        await stream.read()
        await stream.context.abort(code, "no", metadata)

    async with fake_gateway(script) as gateway:
        with pytest.raises(kind) as caught:
            async with parley.connect(gateway.target, profile="p", max_outage=timedelta(0)):
                pytest.fail("the block must not run")
    error = caught.value
    assert len(gateway.streams) == 1
    assert type(error) is kind
    assert (error.code, error.reason, error.message) == (code.name, reason, "no")
    assert error.retry_delay == timedelta(seconds=1.5)
    assert error.field_violations == (errors.FieldViolation("open.config.model", "must be set"),)
    assert "1.5 s" in error.what_to_do
    assert "open.config.model: must be set" in str(error)


async def test_the_service_status_survives_writes_that_fail_beside_it():
    """grpc.aio alone would report INTERNAL here most of the time (grpc issue 36066)."""

    async def script(stream: Stream) -> None:
        await stream.opened()
        await stream.context.abort(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "sent too much",
            status_details(8, ("ErrorInfo", errors_pb2.ErrorInfoDetail(reason="UPLINK_OVERFLOW"))),
        )

    async with fake_gateway(script) as gateway:
        for _ in range(20):
            with pytest.raises(errors.ResourceExhausted, match="sent too much") as caught:
                async with parley.connect(gateway.target, profile="p") as session:
                    while True:
                        await session.send_audio(FRAME * 100)
            assert caught.value.reason == "UPLINK_OVERFLOW"


async def test_a_target_without_a_server_is_unavailable():
    with pytest.raises(errors.Unavailable):
        async with parley.connect("127.0.0.1:1", profile="p", open_timeout=timedelta(seconds=0.5)):
            pytest.fail("the block must not run")


async def test_a_service_that_never_opens_is_given_up():
    async def script(stream: Stream) -> None:
        while await stream.read() is not None:
            pass

    async with fake_gateway(script) as gateway:
        with pytest.raises(errors.DeadlineExceeded, match="1 s"):
            async with parley.connect(gateway.target, profile="p", open_timeout=timedelta(seconds=1)):
                pytest.fail("the block must not run")
        async with asyncio.timeout(30):
            await gateway.streams[0].finished.wait()


async def test_half_close_lets_the_stream_finish_and_sends_no_end():
    async def script(stream: Stream) -> None:
        await stream.opened()
        while await stream.read() is not None:
            pass
        await stream.audio(0.02)
        await stream.send(turn_complete=pb.TurnComplete())

    async with fake_gateway(script) as gateway:
        async with parley.connect(gateway.target, profile="p") as session:
            await session.send_text("last words")
            await session.half_close()
            with pytest.raises(errors.SessionEnded, match=r"half_close\(\)"):
                await session.send_text("more")
            seen = [type(event) async for event in session]
        assert seen == [events.Opened, events.Audio, events.TurnComplete]
        assert session.ended is None
        assert not gateway.streams[0].of("end")
        assert [r.text.text for r in gateway.streams[0].of("text")] == ["last words"]


async def test_an_error_that_nobody_saw_is_raised_on_leaving():
    async def script(stream: Stream) -> None:
        await stream.opened()
        await stream.context.abort(grpc.StatusCode.UNAVAILABLE, "worker lost")

    async with fake_gateway(script) as gateway:
        with pytest.raises(errors.Unavailable, match="worker lost"):
            async with parley.connect(gateway.target, profile="p") as session:
                await eventually(lambda: session._streams.finished)


@pytest.mark.parametrize("how", ["iterating", "sending"])
async def test_an_error_that_was_seen_is_not_raised_again_on_leaving(how):
    async def script(stream: Stream) -> None:
        await stream.opened()
        await stream.context.abort(grpc.StatusCode.UNAVAILABLE, "worker lost")

    async with fake_gateway(script) as gateway, parley.connect(gateway.target, profile="p") as session:
        await eventually(lambda: session._streams.finished)
        with pytest.raises(errors.Unavailable, match="worker lost"):
            if how == "sending":
                await session.send_audio(FRAME)
            async for _ in session:
                pass


async def test_sending_to_a_session_that_the_service_ended_says_so():
    async def script(stream: Stream) -> None:
        await stream.opened()
        await stream.send(ended=pb.Ended(reason=pb.END_REASON_OPERATOR, message="maintenance"))

    async with fake_gateway(script) as gateway, parley.connect(gateway.target, profile="p") as session:
        assert [type(event) async for event in session] == [events.Opened, events.Ended]
        with pytest.raises(errors.SessionEnded, match="OPERATOR"):
            await session.send_text("hello?")


async def test_an_end_that_is_not_confirmed_is_an_error():
    async def script(stream: Stream) -> None:
        await stream.opened()
        while await stream.read() is not None:
            pass

    async with fake_gateway(script) as gateway:
        with pytest.raises(errors.DeadlineExceeded, match="confirm the end"):
            async with parley.connect(gateway.target, profile="p", close_timeout=timedelta(seconds=0.1)):
                pass


async def test_a_caller_that_does_not_read_holds_the_service_back_and_then_gets_everything():
    seconds = 60
    sent = 0

    async def script(stream: Stream) -> None:
        nonlocal sent
        await stream.opened()
        for _ in range(seconds):
            await stream.audio(1.0)
            sent += 1
        await stream.read_until("end")
        await stream.ended()

    async with fake_gateway(script) as gateway, parley.connect(gateway.target, profile="p") as session:
        inbox = session._streams.downlink.inbox
        await eventually(lambda: inbox.full)
        assert sent < seconds
        seen = 0.0
        async for event in session:
            seen += event.seconds if isinstance(event, events.Audio) else 0.0
            if seen >= seconds:
                break
    assert session.audit.result().whole


async def test_cancelling_the_iteration_loses_no_event_and_keeps_the_session():
    async def script(stream: Stream) -> None:
        await stream.opened()
        await stream.read_until("text")
        await stream.send(text=pb.TextOutput(text="answer"))
        await stream.read_until("end")
        await stream.ended()

    async with fake_gateway(script) as gateway, parley.connect(gateway.target, profile="p") as session:
        assert isinstance(await anext(session), events.Opened)
        waiting = asyncio.create_task(anext(session))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await session.send_text("question")
        assert (await anext(session)).text == "answer"


async def test_unacked_messages_are_kept_until_acked():
    async def script(stream: Stream) -> None:
        await stream.opened()
        await stream.read_until("text")
        await stream.send(acked_seq=2, text=pb.TextOutput(text="answer"))
        await stream.read_until("end")
        await stream.ended()

    async with fake_gateway(script) as gateway, parley.connect(gateway.target, profile="p") as session:
        await session.send_audio(FRAME)
        await eventually(lambda: session.stats.sent_messages == 1)
        assert session.stats.unacked_messages == 1
        await session.send_text("question")
        await eventually(lambda: session.stats.sent_messages == 2 and session.stats.unacked_messages == 0)


@pytest.mark.parametrize("how", ["leave", "raise", "cancel"])
async def test_no_task_is_left_behind(how):
    async def use(target: str) -> None:
        async with parley.connect(target, profile="p") as session:
            await session.send_audio(FRAME)
            if how == "raise":
                raise KeyError("mine")
            if how == "cancel":
                await asyncio.Event().wait()

    async with fake_gateway(converse_until_end) as gateway:
        running = asyncio.all_tasks()
        task = asyncio.create_task(use(gateway.target))
        if how == "cancel":
            await eventually(lambda: gateway.streams and gateway.streams[0].of("audio"))
            task.cancel()
        result = (await asyncio.gather(task, return_exceptions=True))[0]
        assert isinstance(result, {"leave": type(None), "raise": KeyError, "cancel": asyncio.CancelledError}[how])
        async with asyncio.timeout(30):
            await gateway.streams[0].finished.wait()
        ours = [t for t in asyncio.all_tasks() - running if t.get_name().startswith("parley")]
        assert ours == []


async def test_exactly_one_source_is_asked_for():
    for arguments in ({}, {"profile": "p", "config": parley.SessionConfig(model="m")}):
        with pytest.raises(TypeError, match="exactly one"):
            async with parley.connect("127.0.0.1:1", **arguments):
                pass


async def test_a_resume_starts_where_the_service_says():
    async def script(stream: Stream) -> None:
        await stream.read()
        opened = pb.Opened(session_id="ses_old", next_uplink_seq=42, existing=True)
        await stream.context.write(pb.ConverseResponse(opened=opened))
        stream.seq = 7
        await stream.send(text=pb.TextOutput(text="again"))
        await stream.read_until("end")
        await stream.ended()

    async with fake_gateway(script) as gateway:
        resume = parley.Resume("ses_old", "token", last_received_seq=7)
        async with parley.connect(gateway.target, resume=resume) as session:
            await session.send_text("here again")
        stream = gateway.streams[0]
    assert stream.requests[0].open.resume.last_received_seq == 7
    assert stream.requests[0].open.request_id == ""
    assert stream.numbered() == [42, 43]
    assert session.audit.result().whole


async def test_the_current_trace_goes_along():
    from opentelemetry import trace
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags

    context = SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=TraceFlags(1))
    wanted = f"00-{0xABC:032x}-{0xDEF:016x}-01"
    async with fake_gateway(converse_until_end) as gateway:
        with trace.use_span(NonRecordingSpan(context)):
            async with parley.connect(gateway.target, profile="p"):
                pass
        explicit = f"00-{1:032x}-{2:016x}-01"
        async with parley.connect(gateway.target, profile="p", traceparent=explicit):
            pass
        async with parley.connect(gateway.target, profile="p"):
            pass
        first, second, third = gateway.streams
    assert first.metadata["traceparent"] == first.requests[0].open.traceparent == wanted
    assert second.metadata["traceparent"] == explicit
    assert "traceparent" not in third.metadata


def test_importing_the_client_needs_only_grpc_and_protobuf():
    import subprocess

    probe = (
        "import sys, parley; bad = {m.split('.')[0] for m in sys.modules} & "
        "{'typer', 'rich', 'opentelemetry', 'pydantic', 'nats', 'numpy', 'soxr', 'services', 'emulator'};"
        "print(sorted(bad))"
    )
    out = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_what_is_exported():
    assert set(parley.__all__) == {
        "Content", "ConversationLog", "FunctionDeclaration", "ParleyError", "Part", "Playout", "PlayoutQueue",
        "PlayoutStats", "Resume", "SequenceAudit", "Session", "SessionConfig", "SessionStats", "__version__", "audio",
        "connect", "errors", "events",
    }  # fmt: skip
    assert all(hasattr(parley, name) for name in parley.__all__)


async def test_whoever_still_sends_or_listens_when_the_block_is_left_is_told():
    async with fake_gateway(converse_until_end) as gateway:
        with pytest.raises(KeyError):
            async with parley.connect(gateway.target, profile="p") as session:
                await anext(session)
                listening = asyncio.create_task(anext(session))
                raise KeyError
        with pytest.raises(StopAsyncIteration):
            await listening
        with pytest.raises(errors.SessionEnded):
            await session.send_text("too late")
