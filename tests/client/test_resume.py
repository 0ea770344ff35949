"""A session that survives its streams, against a scripted gateway over real sockets. The real one: tests/e2e."""

import asyncio
from datetime import timedelta

import grpc
import pytest

import parley
from parley import _retry, _streams, errors, events
from parley.v1 import live_pb2 as pb
from tests.client.fake_gateway import Stream
from tests.client.streams import HERE, NONE, WINDOW, confirm_end, gateway_of, hang, kinds, lose, take_until
from tests.support.eventually import eventually

FRAME = b"\1\0" * 640


# -- the stream is lost ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"after": 0.05},
        {"reason": "GATEWAY_DRAINING", "after": 0.05},
        {"reason": "NO_CAPACITY", "after": 0.05, "code": grpc.StatusCode.RESOURCE_EXHAUSTED},
        {"code": grpc.StatusCode.CANCELLED},
    ],
    ids=str,
)
async def test_the_conversation_goes_on_where_the_stream_broke(how):
    async def breaks(stream: Stream) -> None:
        await stream.opened(**WINDOW)
        await stream.send(text=pb.TextOutput(text="1"))
        await stream.send(text=pb.TextOutput(text="2"), acked_seq=1)
        await stream.read_until("text")
        await stream.read_until("text")
        await stream.lose(**how)

    async def goes_on(stream: Stream) -> None:
        await stream.opened(next_uplink_seq=2, **HERE)
        await stream.send(text=pb.TextOutput(text="2"), seq=2)  # comes again all the same
        await stream.send(text=pb.TextOutput(text="3"))
        await confirm_end(stream)

    async with gateway_of(breaks, goes_on) as gateway:
        async with parley.connect(gateway.target, profile="p", api_key="k") as session:
            await session.send_text("first")
            await session.send_text("second")
            seen = await take_until(session, events.StreamResumed)
            await session.send_text("third")
            seen += [await anext(session)]
        second = gateway.streams[1]
    assert kinds(seen) == ["Opened", "Text", "Text", "StreamLost", "StreamResumed", "Text"]
    assert [event.text for event in seen if isinstance(event, events.Text)] == ["1", "2", "3"]
    lost, resumed = seen[3:5]
    assert type(lost.error) is (errors.ResourceExhausted if "NO_CAP" in str(how) else errors.Unavailable)
    assert lost.time_left == timedelta(seconds=20)
    assert resumed.gap > NONE
    assert (resumed.replayed, resumed.dropped) == (((2, 2),), ())
    resume = second.requests[0].open.resume
    assert (resume.session_id, resume.resume_token, resume.last_received_seq) == ("ses_test", "secret", 2)
    assert second.requests[0].open.request_id == ""
    assert second.metadata["authorization"] == "Bearer k"
    assert [request.text.text for request in second.of("text")] == ["second", "third"]
    assert second.numbered() == [2, 3, 4]
    assert session.audit.result().whole
    assert (session.stats.resumes, session.stats.repeated_messages, session.stats.undelivered_messages) == (1, 1, 0)


async def test_what_is_sent_meanwhile_waits_and_arrives_in_order():
    back = asyncio.Event()

    async def away(stream: Stream) -> None:
        await stream.lose(reason="NO_WORKER", after=0.01)

    async def goes_on(stream: Stream) -> None:
        if not back.is_set():
            await away(stream)
        await stream.opened(**HERE)
        await confirm_end(stream)

    speech = bytes(range(250)) * 128 * 10  # 10 s
    async with gateway_of(lose, goes_on) as gateway:
        async with parley.connect(gateway.target, profile="p") as session:
            await take_until(session, events.StreamLost)
            await session.send_audio(speech)  # returns: a microphone may go on
            await session.send_text("and this")
            await eventually(lambda: len(gateway.streams) > 2)
            back.set()
            seen = await take_until(session, events.StreamResumed)
        last = gateway.streams[-1]
    assert b"".join(frame for request in last.of("audio") for frame in request.audio.frames) == speech
    assert last.requests[-2].text.text == "and this"
    assert last.numbered() == list(range(1, len(last.numbered()) + 1))
    assert seen[-1].dropped == ()


async def test_sends_wait_when_half_a_minute_of_speech_waits():
    async def breaks(stream: Stream) -> None:
        await stream.opened(**WINDOW)
        await stream.lose(after=0.0)

    async def away(stream: Stream) -> None:
        await stream.read()
        await asyncio.Event().wait()

    async with gateway_of(breaks, away) as gateway:
        with pytest.raises(KeyError):
            async with parley.connect(gateway.target, profile="p") as session:
                await take_until(session, events.StreamLost)
                sending = asyncio.create_task(session.send_audio(bytes(60 * 32_000)))
                await eventually(lambda: session.stats.waiting_messages == -(-(1 << 20) // 1280))
                assert not sending.done()
                sending.cancel()
                raise KeyError


@pytest.mark.parametrize("ended", [False, True])
async def test_half_close_and_end_are_said_again(ended):
    async def breaks(stream: Stream) -> None:
        await stream.opened(**WINDOW)
        await stream.read_until("end" if ended else "text")
        if not ended:
            assert await stream.read() is None
        await stream.lose()

    async def goes_on(stream: Stream) -> None:
        await stream.opened(**HERE)
        if ended:
            await confirm_end(stream)
            return
        while await stream.read() is not None:
            pass
        await stream.send(text=pb.TextOutput(text="the answer"))

    async with gateway_of(breaks, goes_on) as gateway:
        async with parley.connect(gateway.target, profile="p") as session:
            await session.send_text("last words")
            await (session.end() if ended else session.half_close())
            seen = [event async for event in session]
        second = gateway.streams[1]
    assert kinds(seen) == ["Opened", "StreamLost", "StreamResumed", "Ended" if ended else "Text"]
    assert [request.text.text for request in second.of("text")] == ["last words"]


@pytest.mark.parametrize(
    ("reason", "code"),
    [("SESSION_ENDED", grpc.StatusCode.FAILED_PRECONDITION), ("SESSION_UNKNOWN", grpc.StatusCode.NOT_FOUND)],
)
async def test_a_session_that_was_ended_and_is_gone_has_ended(reason, code):
    async def breaks(stream: Stream) -> None:
        await stream.opened(**WINDOW)
        await stream.read_until("end")
        await stream.lose()

    async def gone(stream: Stream) -> None:
        await stream.read()
        await stream.lose(reason=reason, code=code)

    async with gateway_of(breaks, gone) as gateway, parley.connect(gateway.target, profile="p"):
        pass
    assert len(gateway.streams) == 2


# -- and is not had any more -----------------------------------------------------------------------------------------


async def test_it_is_given_up_with_the_last_error_and_with_what_is_lost():
    async def breaks(stream: Stream) -> None:
        await stream.opened(resume_window={"nanos": 300_000_000})
        await stream.read_until("text")
        await stream.lose()

    async def refuses(stream: Stream) -> None:
        await stream.lose(reason="NO_CAPACITY", after=0.05, code=grpc.StatusCode.RESOURCE_EXHAUSTED)

    async with gateway_of(breaks, refuses) as gateway, parley.connect(gateway.target, profile="p") as session:
        await session.send_text("did you hear this?")
        await take_until(session, events.StreamLost)
        await session.send_audio(FRAME * 5)
        with pytest.raises(errors.ResourceExhausted) as caught:
            async for _ in session:
                pass
        with pytest.raises(errors.ResourceExhausted, match="given up"):
            await session.send_text("more")
    assert caught.value.reason == "NO_CAPACITY"
    assert "; given up after 0." in caught.value.message
    assert caught.value.message.endswith("not acknowledged: 1 text, 0.2 s of audio")
    assert (session.stats.unacked_messages, session.stats.unsent_messages) == (1, 5)


@pytest.mark.parametrize(
    ("reason", "code", "kind"),
    [
        ("SUPERSEDED", grpc.StatusCode.ABORTED, errors.Superseded),
        ("SEQUENCE_BROKEN", grpc.StatusCode.INVALID_ARGUMENT, errors.InvalidRequest),
        ("INTERNAL", grpc.StatusCode.INTERNAL, errors.InternalError),
    ],
)
async def test_what_time_does_not_mend_is_not_tried_again(reason, code, kind):
    async def breaks(stream: Stream) -> None:
        await stream.opened(**WINDOW)
        await stream.lose(reason=reason, code=code)

    for before in ((), (lose,)):
        async with gateway_of(*before, breaks) as gateway, parley.connect(gateway.target, profile="p") as session:
            with pytest.raises(kind) as caught:
                async for _ in session:
                    pass
            # Not "given up": nobody tried anything.
            assert caught.value.message == reason
            assert len(gateway.streams) == 1 + len(before)


async def test_a_refused_resume_ends_the_session_with_that_refusal():
    async def refuses(stream: Stream) -> None:
        await stream.lose(reason="SESSION_UNKNOWN", code=grpc.StatusCode.NOT_FOUND)

    async with gateway_of(lose, refuses) as gateway, parley.connect(gateway.target, profile="p") as session:
        await take_until(session, events.StreamLost)
        with pytest.raises(errors.NotFound):
            await anext(session)
        assert len(gateway.streams) == 2


async def test_a_session_that_has_ended_is_not_resumed_whatever_the_status_says():
    async def script(stream: Stream) -> None:
        await stream.opened(**WINDOW)
        await stream.send(ended=pb.Ended(reason=pb.END_REASON_BACKEND))
        await stream.lose(reason="BACKEND_UNAVAILABLE", after=0.01)

    async with gateway_of(script) as gateway, parley.connect(gateway.target, profile="p") as session:
        with pytest.raises(errors.Unavailable) as caught:
            await take_until(session, events.StreamLost)
        assert "given up" not in caught.value.message
        assert len(gateway.streams) == 1


async def test_without_outages_the_error_of_the_stream_is_the_session_s():
    async def script(stream: Stream) -> None:
        await stream.opened(**WINDOW)
        await stream.lose(reason="GATEWAY_DRAINING", after=0.01)

    async with gateway_of(script) as gateway:
        async with parley.connect(gateway.target, profile="p", max_outage=NONE) as session:
            with pytest.raises(errors.Unavailable):
                await take_until(session, events.StreamLost)
            # The tokens are the application's, in this process or another one.
            assert session.resume_point == parley.Resume("ses_test", "secret", 0)
        assert len(gateway.streams) == 1


async def test_a_gateway_that_does_not_answer_does_not_make_an_outage_longer(monkeypatch):
    monkeypatch.setattr(_streams, "LAST_ATTEMPT", 0.1)
    outage = timedelta(seconds=0.3)

    async with (
        asyncio.timeout(_streams.ATTEMPT / 2),
        gateway_of(lose, hang) as gateway,
        parley.connect(gateway.target, profile="p", max_outage=outage) as session,
    ):
        with pytest.raises(errors.Unavailable, match="no gateway answered"):
            await take_until(session, events.StreamResumed)


@pytest.mark.parametrize("how", ["leave", "raise", "cancel"])
async def test_leaving_in_an_outage_leaves_nothing_behind(how):
    lost = asyncio.Event()

    async def hangs(stream: Stream) -> None:
        lost.set()
        await asyncio.Event().wait()

    async def use(target: str) -> None:
        async with parley.connect(target, profile="p", close_timeout=timedelta(seconds=0.1)):
            await lost.wait()
            if how == "raise":
                raise KeyError("mine")
            if how == "cancel":
                await asyncio.Event().wait()

    async with gateway_of(lose, hangs) as gateway:
        running = asyncio.all_tasks()
        task = asyncio.create_task(use(gateway.target))
        await lost.wait()
        if how == "cancel":
            task.cancel()
        result = (await asyncio.gather(task, return_exceptions=True))[0]
        expected = {"leave": errors.DeadlineExceeded, "raise": KeyError, "cancel": asyncio.CancelledError}
        assert isinstance(result, expected[how])
        await eventually(lambda: gateway.streams[1].cancelled)
        assert [t for t in asyncio.all_tasks() - running if t.get_name().startswith("parley")] == []


async def test_a_fault_of_the_client_reaches_the_application(monkeypatch):
    def broken(*_):
        raise KeyError("a fault")

    monkeypatch.setattr(_retry.Retry, "lost", broken)
    async with gateway_of(lose) as gateway, parley.connect(gateway.target, profile="p") as session:
        with pytest.raises(errors.InternalError, match="a fault"):
            await take_until(session, events.StreamLost)


# -- the gateway drains ----------------------------------------------------------------------------------------------


def draining() -> dict:
    return {"gateway_draining": pb.GatewayDraining(time_left={"seconds": 1}), "seq": 0}


async def test_a_session_leaves_a_gateway_that_drains_without_a_gap():
    moved = asyncio.Event()

    async def drains(stream: Stream) -> None:
        await stream.opened(**WINDOW)
        await stream.send(**draining())
        await stream.read_until("text")
        await stream.send(seq=1, text=pb.TextOutput(text="still served here"))
        await moved.wait()
        await stream.lose(reason="SUPERSEDED", code=grpc.StatusCode.ABORTED)

    async def takes(stream: Stream) -> None:
        await stream.read()
        await eventually(lambda: session.stats.unacked_messages and session.stats.waiting_messages == 0)
        opened = pb.Opened(session_id="ses_test", resume_token="secret", next_uplink_seq=1, existing=True)
        await stream.context.write(pb.ConverseResponse(opened=opened))
        moved.set()
        await stream.send(seq=1, text=pb.TextOutput(text="still served here"))
        await stream.send(seq=2, text=pb.TextOutput(text="and here"))
        await confirm_end(stream)

    async with gateway_of(drains, takes) as gateway:
        async with parley.connect(gateway.target, profile="p") as session:
            await session.send_text("hello")
            seen = [await anext(session) for _ in range(5)]
        second = gateway.streams[1]
    assert sorted(kinds(seen)) == ["GatewayDraining", "Opened", "StreamResumed", "Text", "Text"]
    assert [event.text for event in seen if isinstance(event, events.Text)] == ["still served here", "and here"]
    assert [request.text.text for request in second.of("text")] == ["hello"]
    assert session.audit.result().whole


@pytest.mark.parametrize("spoken", [True, False])
async def test_a_takeover_of_which_nobody_told_is_ours_and_one_after_a_refusal_is_not(spoken):
    """The draining gateway says SUPERSEDED while our own try is under way; what becomes of that one decides."""
    trying, superseded = asyncio.Event(), asyncio.Event()

    async def drains(stream: Stream) -> None:
        await stream.opened(**WINDOW)
        await stream.send(**draining())
        await trying.wait()
        superseded.set()
        await stream.lose(reason="SUPERSEDED", code=grpc.StatusCode.ABORTED)

    async def fails(stream: Stream) -> None:
        await stream.read()
        trying.set()
        await superseded.wait()
        await eventually(gateway.streams[0].finished.is_set)
        await stream.lose(reason="GATEWAY_DRAINING" if spoken else "", after=0.01)

    async def takes(stream: Stream) -> None:
        await stream.opened(**HERE)
        await confirm_end(stream)

    async with gateway_of(drains, fails, takes) as gateway, parley.connect(gateway.target, profile="p") as session:
        if spoken:
            with pytest.raises(errors.Superseded):
                await take_until(session, events.StreamResumed)
            assert len(gateway.streams) == 2
        else:
            await take_until(session, events.StreamResumed)


async def test_a_gateway_that_drains_alone_is_used_to_its_end():
    async def drains(stream: Stream) -> None:
        await stream.opened(**WINDOW)
        await stream.send(**draining())
        await stream.read_until("text")
        await eventually(lambda: len(gateway.streams) > 3)
        await stream.send(seq=1, text=pb.TextOutput(text="served"), acked_seq=1)
        await stream.lose(reason="GATEWAY_DRAINING", after=0.01)

    async def refuses(stream: Stream) -> None:
        if gateway.streams[0].finished.is_set():
            await stream.opened(next_uplink_seq=2, **HERE)
            stream.seq = 1
            await confirm_end(stream)
        else:
            await stream.lose(reason="GATEWAY_DRAINING", after=0.01)

    async with gateway_of(drains, refuses) as gateway, parley.connect(gateway.target, profile="p") as session:
        await session.send_text("hello")
        seen = await take_until(session, events.StreamResumed)
    assert kinds(seen) == ["Opened", "GatewayDraining", "Text", "StreamLost", "StreamResumed"]
