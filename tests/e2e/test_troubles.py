"""Trouble in the middle of a call: the conversation goes on, or ends as it should, and nothing is lost in silence."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio

import parley
from parley import errors, events
from parley.cli.stack import Stack, StackConfig
from parley.v1 import live_pb2, live_pb2_grpc
from tests.support.counts import get_json, heard, post_json, stream_messages
from tests.support.eventually import eventually
from tests.support.ports import reserved

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(120)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack() -> AsyncIterator[Stack]:
    env = {
        "PARLEY_WORKER_ATTACHMENT_TIMEOUT": "1s",
        "PARLEY_WORKER_RESUME_WINDOW": "5s",
        "PARLEY_WORKER_RECORD_RETENTION": "0",
        # Big enough for two of the pictures of the test below, too small for three.
        "PARLEY_GATEWAY_UPLINK_RING_BYTES": "1048576",
    }
    async with Stack(StackConfig(workers=2, gateways=1, env=env)) as running:
        yield running


FRAME = 1280 / 32_000
"""Seconds of audio in a frame."""


def address(stack: Stack) -> str:
    return str(stack.gateways[0].ready["address"])


async def answer(session: parley.Session) -> float:
    """Seconds of speech until the answer is complete."""
    seconds = 0.0
    async for event in session:
        if isinstance(event, events.Audio):
            seconds += event.seconds
        if isinstance(event, events.TurnComplete) and seconds:
            break
    return seconds


async def test_a_broker_that_is_away_longer_than_a_gateway_may_be_silent(stack: Stack) -> None:
    async with parley.connect(address(stack), profile="plain") as session:
        await session.send_text("hello")
        assert await answer(session) > 0
        frames = 60
        port = int(stack.nats.ready["url"].rpartition(":")[2])
        stack.nats.stopping = True
        stack.nats.signal(signal.SIGKILL)
        await stack.nats.process.wait()
        lost = asyncio.get_running_loop().time()
        with reserved(str(port)):
            for _ in range(frames):  # audio goes on meanwhile, as a microphone does
                await session.send_audio(bytes(1280))
                await asyncio.sleep(FRAME)
            assert asyncio.get_running_loop().time() - lost > 1  # longer than the attachment timeout
            await stack.start_nats(port=port)
        await session.send_text("hello")
        assert await answer(session) > 0
        assert session.audit.result().whole
        record = await heard(stack, session.id)
        assert record["texts"] == ["hello", "hello"]
        assert record["audio"]["bytes"] == frames * 1280


async def test_an_end_with_much_unplayed_audio_is_confirmed_after_it(stack: Stack) -> None:
    """A caller that takes speech as it plays it: for seconds after the end it hears what had been said before."""
    async with parley.connect(address(stack), profile="support") as session:
        await session.send_text("tell me about your service")
        played = 0.0
        async for event in session:
            if isinstance(event, events.Audio):
                await asyncio.sleep(event.seconds)
                before, played = played, played + event.seconds
                if before < 2 <= played:
                    await session.end("enough")
        assert session.ended is not None
        assert session.ended.reason == "CALLER"
        assert played > 5.5  # more was waiting than the time after which a silent worker is doubted
        assert session.audit.result().whole


async def test_text_behind_audio_cannot_fill_the_gateway_for_ever(stack: Stack) -> None:
    """Audio is acked by the handle after the next turn; what is in the log behind it must not wait for that."""
    picture = live_pb2.Part(image=live_pb2.Blob(mime_type="image/jpeg", data=b"\xff\xd8\xff" + bytes(700_000)))
    content = live_pb2.Content(role=live_pb2.ROLE_USER, parts=[picture])
    hello = live_pb2.Content(role=live_pb2.ROLE_USER, parts=[live_pb2.Part(text="hello")])
    async with grpc.aio.insecure_channel(address(stack)) as channel:
        call = live_pb2_grpc.LiveServiceStub(channel).Converse(timeout=30)
        await call.write(live_pb2.ConverseRequest(open=live_pb2.Open(request_id="full", profile="plain")))
        await call.write(live_pb2.ConverseRequest(seq=1, audio=live_pb2.AudioInput(frames=[bytes(1280)])))
        for seq in (2, 3, 4):
            await call.write(live_pb2.ConverseRequest(seq=seq, turn=live_pb2.TurnInput(content=[content])))
        last = live_pb2.TurnInput(content=[hello], turn_complete=True)
        await call.write(live_pb2.ConverseRequest(seq=5, turn=last))
        async for response in call:
            if response.WhichOneof("payload") == "audio":
                break
        else:
            raise AssertionError("no answer")
        call.cancel()


async def test_a_resume_from_the_future_is_refused_and_harms_nobody(stack: Stack) -> None:
    async with parley.connect(address(stack), profile="plain") as session:
        assert session.opened is not None
        wrong = parley.Resume(session.id, session.opened.resume_token, 10**9)
        with pytest.raises(errors.InvalidRequest) as caught:
            async with parley.connect(address(stack), resume=wrong):
                pass
        assert [violation.field for violation in caught.value.field_violations] == ["open.resume.last_received_seq"]
        await session.send_text("hello")
        assert await answer(session) > 0


async def test_a_lost_stream_is_resumed_where_it_was(stack: Stack) -> None:
    resume: parley.Resume | None = None
    with pytest.raises(ConnectionError):
        async with parley.connect(address(stack), profile="plain") as session:
            assert session.opened is not None
            await session.send_text("hello")
            async for event in session:
                if isinstance(event, events.Audio):
                    resume = parley.Resume(session.id, session.opened.resume_token, event.seq)
                    raise ConnectionError
    assert resume is not None
    async with parley.connect(address(stack), resume=resume) as again:
        assert again.id == resume.session_id
        # All that was sent had arrived, so there is nothing to say again.
        assert again.opened.next_uplink_seq == session.stats.sent_messages + 1
        seqs = []
        async for event in again:
            seqs.append(event.seq)
            if isinstance(event, events.TurnComplete):
                break
        numbered = [seq for seq in seqs if seq]
        assert numbered == list(range(resume.last_received_seq + 1, numbered[-1] + 1))
        await again.send_text("hello")
        assert await answer(again) > 0
        assert again.audit.result().whole
        assert (await heard(stack, again.id))["texts"] == ["hello", "hello"]


@pytest.mark.parametrize("ids", ["same", "new"])
async def test_a_call_that_the_model_makes_twice_runs_once(stack: Stack, ids: str) -> None:
    assert stack.emulator is not None
    ops = stack.tools[0].ready["ops"] + "/debug/vars"
    before = await get_json(ops)
    async with parley.connect(address(stack), profile="support") as session:
        faults = f"{stack.emulator.ready['control']}/conversations/{session.id}/faults"
        await post_json(faults, {"do": "duplicate_call", "id": ids})
        await session.send_text("where is my order 4711")
        async for event in session:
            if isinstance(event, events.GenerationComplete):
                break
        assert len((await get_json(faults))["fired"]) == 1
    assert (await get_json(ops))["calls"] == before["calls"] + 1


async def test_a_worker_told_to_stop_while_it_dials_leaves_the_call_to_another(stack: Stack) -> None:
    assert stack.emulator is not None
    workers = list(stack.workers)
    os.kill(stack.emulator.pid, signal.SIGSTOP)
    try:
        opening = asyncio.create_task(_open_and_greet(stack))

        async def dialling() -> list[str]:
            found = [await get_json(worker.ready["ops"] + "/debug/vars") for worker in workers]
            return [numbers["id"] for numbers in found if numbers["opening"]]

        (chosen,) = await eventually(dialling)
        worker = next(worker for worker in workers if worker.ready["id"] == chosen)
        stopping = asyncio.create_task(worker.stop(10))
        other = next(one for one in workers if one is not worker)

        async def other_dials() -> bool:
            return bool((await get_json(other.ready["ops"] + "/debug/vars"))["opening"])

        await eventually(other_dials)
    finally:
        os.kill(stack.emulator.pid, signal.SIGCONT)
    assert await opening > 0
    await stopping

    async def nothing_left() -> bool:
        messages = await stream_messages(stack)
        assert not messages["PARLEY_SESSIONS"], messages
        return True

    await eventually(nothing_left)


async def _open_and_greet(stack: Stack) -> float:
    async with parley.connect(address(stack), profile="plain") as session:
        await session.send_text("hello")
        return await answer(session)
